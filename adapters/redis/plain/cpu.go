package plain

import (
	"context"
	"fmt"
	"regexp"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"
)

var used = regexp.MustCompile(`used_cpu_(?:sys|user)_main_thread:([0-9.]+)`)

// MainThread is the processor time that a server's main thread, which runs all commands,
// has used, by its own account.
func MainThread(ctx context.Context, client *redis.Client) (total time.Duration, err error) {
	info, err := client.Info(ctx, "cpu").Result()
	if err != nil {
		return 0, fmt.Errorf("ask redis for its processor time: %w", err)
	}
	for _, match := range used.FindAllStringSubmatch(info, -1) {
		seconds, err := strconv.ParseFloat(match[1], 64)
		if err != nil {
			return 0, fmt.Errorf("read redis' processor time: %w", err)
		}
		total += time.Duration(seconds * float64(time.Second))
	}
	return total, nil
}
