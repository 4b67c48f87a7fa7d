// Package scaffold writes a new service: what `hapax new` puts into a folder.
//
// The files are templates in the folder templates, with [[ ]] around what is
// filled in, because GitHub, Compose and Hapax itself use braces. hapax.yaml is
// no template: it is cut out of the example that the config package makes from
// its own sources, so its keys and their documentation cannot drift.
//
// go.mod and go.sum are no templates either. A hapax command that was installed
// from a released version asks for that version; one that was built in a checkout
// replaces the module with the checkout, and takes over its pinned requirements,
// so that the service builds without a network.
package scaffold
