// Package launch brings the real servers up on loopback and takes them down.
//
// Each server is had in the first way that works:
//
//	environment ──▶ already running ──▶ docker compose ──▶ native
//	HAPAX_TEST_…    servers.json        compose.yaml       Debian packages, Maven
//
// An address in the environment is only checked: when it does not answer, that is
// the user's business and nothing else is tried. The other ways fall through, and
// the reasons of all of them are kept for the message when none works.
//
// A native server is a recipe: its ports, what must be installed, its
// configuration, its processes, and what remains to be done once they run (a
// database, a cluster). Everything it writes is in its own folder below the
// servers' folder; packages are installed without starting or enabling the
// system's own services.
//
// Ports are fixed and not the usual ones, so that a system service is not in the
// way; HAPAX_PORT_… moves one (see compose.yaml for their names). A port that a
// stranger holds is left to him, and the next free one is taken and recorded.
//
// A server counts as up when it answered a request in its own protocol; there
// are no sleeps to get wrong. `Up` may be repeated, also after a crash: what runs
// is kept, what died is started again on its old ports and data.
package launch
