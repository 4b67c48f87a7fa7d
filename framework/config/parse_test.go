package config_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/hapax-go/hapax/framework/config"
)

func parse(t *testing.T, file string, env ...string) *config.Config {
	t.Helper()
	parsed, err := config.Parse("hapax.yaml", []byte(file), env)
	require.NoError(t, err)
	return parsed
}

func TestParseReferences(t *testing.T) {
	parsed := parse(t, `
service: "${NAME:-orders}"
kafka:
  brokers: "${BROKERS}"
  rack: a$${b}${EMPTY:-c}
  client_id: ${TRICKY}
consumer: { window: "${WINDOW}" }
sqlite: { path: '${DIR}/hapax.db', max_payload: 1024 }
`, "BROKERS=a:1, b:2", "EMPTY=", "TRICKY=x: {y: ${NAME}}", "WINDOW=7", "DIR=/data")
	require.Equal(t, "orders", parsed.Service)
	require.Equal(t, []string{"a:1", "b:2"}, parsed.Kafka.Brokers)
	require.Equal(t, "a${b}c", parsed.Kafka.Rack)
	require.Equal(t, "x: {y: ${NAME}}", parsed.Kafka.ClientID, "a variable's text is a value: no YAML, no further references")
	require.Equal(t, 7, parsed.Consumer.Window)
	require.Equal(t, "/data/hapax.db", parsed.SQLite.Path)
	require.Equal(t, config.Size(1024), parsed.SQLite.MaxPayload)
	requireReadsBack(t, parsed)
}

// "" that somebody wrote is a choice; a variable that happens to be empty is none, and an
// error, see TestErrors.
func TestNoDatabaseIsAChoice(t *testing.T) {
	for _, dsn := range []string{`""`, `"${DATABASE_URL:-}"`, `"${OTHER:-}"`} {
		parsed := parse(t, "service: a\nsql: {dsn: "+dsn+"}\ndedup: {ledger: {dsn: "+dsn+"}}\n", "DATABASE_URL=")
		require.False(t, parsed.SQL.Enabled(), dsn)
	}
	file := "service: a\nsql: {dsn: \"${DATABASE_URL}\"}\n"
	require.False(t, parse(t, file, "DATABASE_URL=", "HAPAX_SQL_DSN=").SQL.Enabled())
	require.True(t, parse(t, file, "DATABASE_URL=", "HAPAX_SQL_DSN=postgres://h/db").SQL.Enabled())
	require.True(t, parse(t, file, "DATABASE_URL=postgres://h/db").SQL.Enabled())

	// A block that is not in use, a password that a server may not want.
	parse(t, "service: a\nrabbitmq: {url: \"${EMPTY}\"}\nredis: {password: \"${EMPTY}\"}\nkafka: {brokers: \"${EMPTY}\"}\n", "EMPTY=")
}

func TestHandlersInherit(t *testing.T) {
	// The handler stands above what it inherits, and a variable changes that.
	parsed := parse(t, `
service: a
handlers:
  Charge:
    window: 3d
    retry: { max_attempts: 1 }
retry: { multiplier: 3 }
consumer: { window: 10 }
`, "HAPAX_CONSUMER_WINDOW=20")
	charge := parsed.Handler("Charge")
	require.Equal(t, config.Duration(72*time.Hour), charge.Window)
	require.Equal(t, 1, charge.Retry.MaxAttempts)
	require.Equal(t, 3.0, charge.Retry.Multiplier)
	require.Equal(t, 20, charge.Consumer.Window)
	require.Equal(t, "auto", charge.Strategy)

	other := parsed.Handler("Other")
	require.Equal(t, parsed.Retry, other.Retry)
	require.Equal(t, parsed.Dedup.Window, other.Window)

	replaced := parse(t, "service: a\nhandlers: {A: {window: 1d}}", `HAPAX_HANDLERS={"B": {"window": "2d"}}`)
	require.Len(t, replaced.Handlers, 1)
	require.Equal(t, "HAPAX_HANDLERS:1:18", replaced.Where("handlers.B.window"))
}

func TestLedgerStore(t *testing.T) {
	for _, c := range []struct{ file, store, dsn string }{
		{"", "sqlite", "hapax.db"},
		{`sql: {dsn: "postgres://h/db"}`, "postgres", "postgres://h/db"},
		{`dedup: {ledger: {dsn: "redis://h:6379/0"}}`, "redis", "redis://h:6379/0"},
		{`dedup: {ledger: {dsn: "u:p@tcp(h:3306)/db"}}`, "mysql", "u:p@tcp(h:3306)/db"},
		{`dedup: {ledger: {store: sqlite, dsn: marks}}`, "sqlite", "marks"},
		{"dedup: {ledger: {store: redis}}\nredis: {addresses: [\"h:1\"]}", "redis", ""},
		{`dedup: {allow_volatile: true, ledger: {store: memory}}`, "memory", ""},
	} {
		store, dsn := parse(t, "service: a\n"+c.file).LedgerStore()
		require.Equal(t, c.store, store, c.file)
		require.Equal(t, c.dsn, dsn.Reveal(), c.file)
	}
}

func TestDurationAndSize(t *testing.T) {
	for text, canonical := range map[string]string{
		"0": "0", "0s": "0", "168h": "7d", "1w": "7d", "1w1d": "8d", "1d12h": "36h", "90m": "1h30m",
		"100ms": "100ms", "1h0m1s": "1h0m1s", "1.5s": "1.5s", "60s": "1m", "3600s": "1h",
	} {
		var duration config.Duration
		require.NoError(t, duration.UnmarshalText([]byte(text)), text)
		require.Equal(t, canonical, duration.String(), text)
	}
	for _, text := range []string{"", "5", "-1s", "1d1w", "1.5d", "d", "s", "1 s", "99999999w", "106751d24h", "300000h300000000h", "+1s", ".5s"} {
		var duration config.Duration
		require.Error(t, duration.UnmarshalText([]byte(text)), text)
	}
	for text, canonical := range map[string]string{"0": "0B", "1024": "1KiB", "16MiB": "16MiB", "1000B": "1000B", "2048GiB": "2TiB"} {
		var size config.Size
		require.NoError(t, size.UnmarshalText([]byte(text)), text)
		require.Equal(t, canonical, size.String(), text)
	}
	for _, text := range []string{"", "MiB", "1MB", "-1", "1.5MiB", "9000000TiB", "9223372036854775808", "1 KiB"} {
		var size config.Size
		require.Error(t, size.UnmarshalText([]byte(text)), text)
	}
}

func TestCanonicalFormsReadBack(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		unit := rapid.SampledFrom([]time.Duration{1, time.Microsecond, time.Millisecond, time.Second, time.Minute, time.Hour}).Draw(t, "unit")
		duration := config.Duration(time.Duration(rapid.Int64Range(0, 1<<20).Draw(t, "n")) * unit)
		var again config.Duration
		require.NoError(t, again.UnmarshalText([]byte(duration.String())))
		require.Equal(t, duration, again)

		size := config.Size(rapid.Int64Min(0).Draw(t, "size"))
		var sizeAgain config.Size
		require.NoError(t, sizeAgain.UnmarshalText([]byte(size.String())))
		require.Equal(t, size, sizeAgain)
	})
}

func FuzzParse(f *testing.F) {
	for _, seed := range []string{
		"service: a\nbroker: kafka\nkafka: {brokers: [\"a:1\"]}", "a: &x [*x]", "? {a: b}\n: c", "service: |-\n  a\n", "- - - a", "a: !!x", "${A}: ${B:-}",
		"handlers: {A: {retry: {max_attempts: 3}}}", "---\n...\n---", "\xef\xbb\xbfservice: a", "<<: {a: 1}", "service: \"\\u00e9\"", "{", "%YAML 1.2\n---\na: b",
	} {
		f.Add(seed, seed)
	}
	f.Fuzz(func(t *testing.T, file, topics string) {
		env := []string{"A=b", "HAPAX_TOPICS=" + topics}
		if topics == "" {
			env = env[:1]
		}
		parsed, err := config.Parse("hapax.yaml", []byte(file), env)
		if err == nil {
			require.NoError(t, parsed.Validate(), "what was parsed is valid")
			requireReadsBack(t, parsed)
		}
	})
}
