package framework

import "net/http"

// AdminHandler is what a service's admin server serves.
func AdminHandler(s *Service) http.Handler { return s.adminHandler() }
