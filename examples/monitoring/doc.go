// Package monitoring holds what watches services made with Hapax: alert rules for
// Prometheus (alerts.yaml) and what makes each of them fire (alerts_test.yaml), a
// dashboard for Grafana (dashboard.json; import it and choose the data source), and
// the least configuration that reads a service's metrics (prometheus.yaml). Its tests
// run promtool, and hold rules and dashboard against the metrics that the code has.
package monitoring
