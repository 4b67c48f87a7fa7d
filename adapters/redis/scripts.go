package redis

import (
	_ "embed"

	"github.com/redis/go-redis/v9"

	"github.com/hapax-go/hapax/adapters/redis/internal/marks"
)

// appendSource is sent whole: it is part of pipelines, which cannot send it anew when the
// server does not know it.
//
//go:embed scripts/append.lua
var appendSource string

//go:embed scripts/commit.lua
var commitSource string

//go:embed scripts/claim.lua
var claimSource string

//go:embed scripts/release.lua
var releaseSource string

//go:embed scripts/beat.lua
var beatSource string

//go:embed scripts/turn.lua
var turnSource string

//go:embed scripts/pass.lua
var passSource string

//go:embed scripts/load.lua
var loadSource string

//go:embed scripts/arbitrate.lua
var arbitrateSource string

//go:embed scripts/leave.lua
var leaveSource string

//go:embed scripts/trim.lua
var trimSource string

//go:embed scripts/remove.lua
var removeSource string

// The scripts are sent by their hash, and whole when the server does not know
// them: after a restart, a fail-over or SCRIPT FLUSH.
var (
	commitScript    = redis.NewScript(marks.Lua + commitSource)
	claimScript     = redis.NewScript(marks.Lua + claimSource)
	releaseScript   = redis.NewScript(releaseSource)
	beatScript      = redis.NewScript(beatSource)
	turnScript      = redis.NewScript(turnSource)
	passScript      = redis.NewScript(passSource)
	loadScript      = redis.NewScript(loadSource)
	arbitrateScript = redis.NewScript(arbitrateSource)
	leaveScript     = redis.NewScript(leaveSource)
	trimScript      = redis.NewScript(trimSource)
	removeScript    = redis.NewScript(removeSource)
)
