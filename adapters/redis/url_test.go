package redis_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/hapax-go/hapax/adapters/redis"
)

func TestParseURL(t *testing.T) {
	single, err := redis.ParseURL("redis://u:p%2Fw@h:1234/3")
	require.NoError(t, err)
	require.Equal(t, []any{redis.Single, []string{"h:1234"}, "u", "p/w", 3}, []any{single.Mode, single.Addresses, single.Username, single.Password, single.DB})
	require.Nil(t, single.TLS)

	sentinel, err := redis.ParseURL("rediss://:pw@h?addr=i:26379&master_name=m&sentinel_password=s&db=2&server_name=n")
	require.NoError(t, err)
	require.Equal(t, []any{redis.Sentinel, []string{"h:6379", "i:26379"}, "m", "pw", "s", 2},
		[]any{sentinel.Mode, sentinel.Addresses, sentinel.MasterName, sentinel.Password, sentinel.SentinelPassword, sentinel.DB})
	require.Equal(t, "n", sentinel.TLS.ServerName)

	cluster, err := redis.ParseURL("redis://[::1]:1?mode=cluster&addr=b:2&addr=c:3")
	require.NoError(t, err)
	require.Equal(t, []any{redis.Cluster, []string{"[::1]:1", "b:2", "c:3"}}, []any{cluster.Mode, cluster.Addresses})

	for text, message := range map[string]string{
		"redis://u:hunter2@h:x/0":                "percent-encoded",
		"redis://u:hunter2/3@h/0":                "",
		"http://u:hunter2@h/":                    "expected redis://",
		"redis://u:/hunter2@h:1/0":               "percent-encoded",
		"redis://u:12/hunter2@h:1/0":             "percent-encoded",
		"redis://u:1?hunter2@h:1/0":              "percent-encoded",
		"redis://u:hunter2@h/zero":               `the database is "zero"`,
		"redis://u:hunter2@h/?poolsize=3":        `unknown parameter "poolsize"`,
		"redis://u:hunter2@h/?ca_file=x":         `unknown parameter "ca_file"`,
		"rediss://u:hunter2@h/?ca_file=/nowhere": "read ca_file",
		"redis://u:hunter2@h/?addr=b:2":          "expected one in mode single",
		"redis://u:hunter2@h/2?mode=cluster":     "a cluster has only",
		"rediss://u:hunter2@h/?skip_verify=yes":  `skip_verify is "yes"`,
	} {
		_, err := redis.ParseURL(text)
		require.ErrorContains(t, err, message, text)
		require.NotContains(t, err.Error(), "hunter2", text)
	}
}
