// Package monitoring holds what watches services made with Hapax: alert rules for
// Prometheus (alerts.yaml), a dashboard for Grafana (dashboard.json; import it and
// choose the data source), and the least configuration that reads a service's
// metrics (prometheus.yaml). Its tests read the rules as promtool does, and hold
// both against the metrics that the code has.
package monitoring
