// Package fault strikes at real consumer processes and judges what is left.
//
// A claim of "takes effect once" is worth what it was tested against. So the
// consumers of a fault run are child processes, killed with SIGKILL and frozen
// with SIGSTOP, and the judgement is made from what they left in the stores,
// never from what they say of themselves. The package knows no broker: a run is
// put together from
//
//   - a Workload, which draws unique events, their keys and the producer's
//     repeated sends from a seed, and a Sent ledger of what became of each send;
//   - a Fleet of children, started from a Command, replaced when killed;
//   - a Plan, which draws the faults from a seed, and a Runner that makes them
//     happen, by the clock or by the progress of the work;
//   - an Observation, read from the stores once everything has drained;
//   - Check, the oracle, which turns the observation into a Report.
//
// Subpackage proxy adds faults of the network, subpackage effects a store that
// shows duplicates instead of preventing them.
//
// # A harness must be able to fail
//
// A run that saw no redelivery proves nothing, and neither does an oracle that
// would pass a consumer without deduplication. So the same scenario is run a
// second time with deduplication off, and Verdict passes only if the real run
// is clean, its faults forced redeliveries, and the control run is found guilty
// of duplicates.
//
// # Life of a child
//
//	         Start                 "ready" on descriptor 3
//	(none) ─────────► starting ───────────────────────────► ready
//	                     │                                    │ Stop / Continue
//	                     │   Kill, Close, its own death       │
//	                     └──────────────► exited ◄────────────┘ Terminate
//
// A child leads its own process group, and the group is killed when the child
// ends, whatever the reason. If the harness itself dies, the kernel (Linux) or
// the end of the child's standard input (everywhere) ends the child.
package fault
