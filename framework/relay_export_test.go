package framework

import (
	"context"
	"net/http"

	"github.com/hapax-go/hapax/adapters"
)

// AdminHandler is what a service's admin server serves.
func AdminHandler(s *Service) http.Handler { return s.adminHandler() }

// SetBroker puts another broker in a service's place.
func SetBroker(s *Service, broker adapters.Broker) { s.broker = broker }

// KeepRelaying runs a relay as a service does.
func KeepRelaying(ctx context.Context, s *Service, run func(context.Context) error) {
	s.keepRelaying(ctx, run)
}
