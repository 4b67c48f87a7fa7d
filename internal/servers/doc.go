// Package servers tells tests and demos where the real servers are.
//
// `make servers` (the launch package) brings them up and writes what it got to
// the state file, .servers/servers.json. A test then asks:
//
//	address := servers.Require(t, servers.Kafka)
//	client, err := kgo.NewClient(kgo.SeedBrokers(address.Hosts...))
//
// Addresses come from the environment first (HAPAX_TEST_KAFKA and its like,
// trusted as given), then from the state file (believed only while something
// listens there). A test whose server is missing is skipped, and the reason goes
// into a report that the end of the run prints as one table; REQUIRE_REAL=1 turns
// the skip into a failure. Nothing is skipped silently.
//
// Fault tests stop and start what the launcher started:
//
//	servers.Restart(ctx, servers.Redis, servers.Hard)   // kill -9 and start again
//	servers.KillNode(ctx, 2); servers.StartNode(ctx, 2) // one of `up --nodes 3`
//
// A restart is felt by every test on that server. `go test` runs packages at the
// same time, so fault tests belong on servers of their own: point
// HAPAX_SERVERS_DIR at another folder, and `up` there picks other ports.
package servers
