package framework

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"
)

type health struct{ ready atomic.Bool }

// serveAdmin serves /healthz, /readyz, /metrics and /duplicates. It binds to loopback unless
// admin.address says otherwise.
func (s *Service) serveAdmin() (stop func(), err error) {
	if !s.config.Admin.Enabled {
		return func() {}, nil
	}
	listener, err := net.Listen("tcp", s.config.Admin.Address)
	if err != nil {
		return nil, fmt.Errorf("listen for health checks on admin.address %q: %w: choose another address, or set admin.enabled: false", s.config.Admin.Address, err)
	}
	server := &http.Server{Handler: s.adminHandler(), ReadHeaderTimeout: 5 * time.Second}
	served := make(chan struct{})
	go func() {
		defer close(served)
		if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			s.logger.Error("serve health checks", "error", err)
		}
	}()
	s.logger.Info("serving health checks", "address", listener.Addr().String())
	return func() { _ = server.Close(); <-served }, nil
}

func (s *Service) adminHandler() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(s.metrics.registry, promhttp.HandlerOpts{}))
	mux.HandleFunc("GET /duplicates", s.serveDuplicates)
	// Alive: the process can answer. A broker that is away is no reason to
	// restart the process, so it does not count here.
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		answer(w, http.StatusOK, "ok", nil)
	})
	// Ready: it takes messages, and the broker answers.
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, r *http.Request) {
		if !s.health.ready.Load() {
			answer(w, http.StatusServiceUnavailable, "not taking messages", nil)
			return
		}
		ctx, cancel := context.WithTimeout(r.Context(), 2*time.Second)
		defer cancel()
		if err := s.broker.Ping(ctx); err != nil {
			answer(w, http.StatusServiceUnavailable, "broker does not answer", err)
			return
		}
		answer(w, http.StatusOK, "ok", nil)
	})
	return mux
}

// serveDuplicates answers with a DuplicateReport: ?hours=24&limit=100.
func (s *Service) serveDuplicates(w http.ResponseWriter, r *http.Request) {
	hours, wrong := queryNumber(r, "hours", 24)
	limit, wrongToo := queryNumber(r, "limit", 100)
	if err := errors.Join(wrong, wrongToo); err != nil {
		answer(w, http.StatusBadRequest, "query not understood", err)
		return
	}
	report := s.duplicates.report(hours, limit, time.Now())
	report.Service = s.config.Service
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(report)
}

// queryNumber is a number of a request's query, fallback when it has none.
func queryNumber(r *http.Request, name string, fallback int) (int, error) {
	values, given := r.URL.Query()[name]
	if !given {
		return fallback, nil
	}
	n, err := strconv.Atoi(values[0])
	if err != nil || n < 0 {
		return 0, fmt.Errorf("%s is %q, expected a whole number, 0 or more", name, values[0])
	}
	return n, nil
}

func answer(w http.ResponseWriter, status int, text string, err error) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	body := map[string]string{"status": text}
	if err != nil {
		body["error"] = err.Error()
	}
	_ = json.NewEncoder(w).Encode(body)
}
