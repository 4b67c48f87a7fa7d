package proto

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

const head = `
local B = 10240
local function bucket(id) local a,b,c = string.byte(id,1,3) return (a + b*256 + c*65536) % B end
`

var scripts = map[string]string{
	"a-nothing":        `return 1`,
	"b-xadd only":      `for i = 2, #ARGV, 5 do redis.call('XADD', KEYS[1], '*', '_watermill_message_uuid', ARGV[i+1], 'metadata', ARGV[i+2], 'payload', ARGV[i+3]) end`,
	"c-xadd+xack each": `for i = 2, #ARGV, 5 do redis.call('XADD', KEYS[1], '*', '_watermill_message_uuid', ARGV[i+1], 'metadata', ARGV[i+2], 'payload', ARGV[i+3]) redis.call('XACK', KEYS[2], 'g', ARGV[i+4]) end`,
	"d-xadd+hsetnx": head + `for i = 2, #ARGV, 5 do
	local id = ARGV[i]
	redis.call('HSETNX', 'm:' .. bucket(id), string.sub(id, 2), 'abc')
	redis.call('XADD', KEYS[1], '*', '_watermill_message_uuid', ARGV[i+1], 'metadata', ARGV[i+2], 'payload', ARGV[i+3]) end`,
	"e-hsetnx": head + `for i = 2, #ARGV, 5 do
	local id = ARGV[i]
	redis.call('HSETNX', 'm:' .. bucket(id), string.sub(id, 2), 'abc') end`,
	"f-getset": head + `for i = 2, #ARGV, 5 do
	local id = ARGV[i]
	local k = 'm:' .. bucket(id)
	local rest = string.sub(id,2)
	local s = redis.call('GET', k)
	if s then
	if not string.find(s, rest, 1, true) then redis.call('SET', k, s .. rest .. 'abc') end
	else redis.call('SET', k, rest .. 'abc') end
	end`,
	"g-getset25": `
local B = 40960
local function bucket(id) local a,b,c = string.byte(id,1,3) return (a + b*256 + c*65536) % B end
	for i = 2, #ARGV, 5 do
	local id = ARGV[i]
	local k = 'm:' .. bucket(id)
	local rest = string.sub(id,2)
	local s = redis.call('GET', k)
	if s then
	if not string.find(s, rest, 1, true) then redis.call('SET', k, s .. rest .. 'abc') end
	else redis.call('SET', k, rest .. 'abc') end
	end`,
	"h-hsetnx25": `
local B = 40960
local function bucket(id) local a,b,c = string.byte(id,1,3) return (a + b*256 + c*65536) % B end
	for i = 2, #ARGV, 5 do
	local id = ARGV[i]
	redis.call('HSETNX', 'm:' .. bucket(id), string.sub(id, 2), 'abc') end`,
	"i-sadd":       `local t = {} for i = 2, #ARGV, 5 do t[#t+1] = ARGV[i] end redis.call('SADD', 'l0', unpack(t))`,
	"j-smismember": `local t = {} for i = 2, #ARGV, 5 do t[#t+1] = ARGV[i] end redis.call('SMISMEMBER', 'l0', unpack(t))`,
	"n-pipe xadd":  `return 1`,
	"k-ids only":   `return 1`,
	"m-current":    current,
	"m2-noput":     strings.Replace(current, "local old = put(i, tag, '')", "local old = nil", 1),
	"x3-noxack":    strings.Replace(current, "call('XACK', input, group, unpack(ids)) == 0", "false", 1),
	"x4-getonly":   strings.Replace(current, "local old = put(i, tag, '')", "local old = nil redis.call('GET', bucketOf(ARGV[i]))", 1),
	"x5-getfind":   strings.Replace(current, "local old = put(i, tag, '')", "local old = find(ARGV[i])", 1),
	"x6-nosplit":   strings.Replace(current, "if marking then closeMarks() end", "", 1),

	"p2-put-nosplit":       strings.Replace(marksLua, "'256 0 0 0 0'", "'8192 0 0 0 0'", 1) + `openMarks('marks', 100000000, 0, 0) read(2, #ARGV, 5) for i = 2, #ARGV, 5 do put(i, 'xy', '') end closeMarks()`,
	"p3-nosplit-findonly":  strings.Replace(marksLua, "'256 0 0 0 0'", "'8192 0 0 0 0'", 1) + `openMarks('marks', 100000000, 0, 0) read(2, #ARGV, 5) for i = 2, #ARGV, 5 do find(i) end closeMarks()`,
	"p4-hash-nosplit":      strings.Replace(marksLua, "'256 0 0 0 0'", "'8192 0 0 0 0'", 1) + `openMarks('marks', 100000000, 0, 0) for i = 2, #ARGV, 5 do redis.call('HSETNX', bucketOf(ARGV[i]), string.sub(ARGV[i], 2, 16), -12345) end`,
	"p5-hash-nosplit-hget": strings.Replace(marksLua, "'256 0 0 0 0'", "'8192 0 0 0 0'", 1) + `openMarks('marks', 100000000, 0, 0) for i = 2, #ARGV, 5 do redis.call('HGET', bucketOf(ARGV[i]), string.sub(ARGV[i], 2, 16)) end`,
	"p6-names":             strings.Replace(marksLua, "'256 0 0 0 0'", "'8192 0 0 0 0'", 1) + `openMarks('marks', 100000000, 0, 0) for i = 2, #ARGV, 5 do  local x= bucketOf(ARGV[i]) .. string.sub(ARGV[i], 2, 16) end`,
	"p-put":                marksLua + `openMarks('marks', 100000000, 0, 0) read(2, #ARGV, 5) for i = 2, #ARGV, 5 do put(i, 'xy', '') end closeMarks()`,
	"l-append25": `
local B = 40960
local function bucket(id) local a,b,c = string.byte(id,1,3) return (a + b*256 + c*65536) % B end
	for i = 2, #ARGV, 5 do
	local id = ARGV[i]
	local k = 'm:' .. bucket(id)
	redis.call('APPEND', k, id)
	end`,
}

var marksLua = func() string { b, _ := os.ReadFile("../marks/marks.lua"); return string(b) }()

var current = func() string {
	b, _ := os.ReadFile("../marks/marks.lua")
	c, _ := os.ReadFile("../../scripts/commit.lua")
	return string(b) + string(c)
}()

func id(i int) []byte {
	var b [8]byte
	binary.BigEndian.PutUint64(b[:], uint64(i))
	s := sha256.Sum256(b[:])
	return s[:16]
}

var usec = regexp.MustCompile(`cmdstat_evalsha:calls=(\d+),usec=(\d+)`)

func TestProto(t *testing.T) {
	ctx := context.Background()
	cmd := exec.Command("redis-server", "--port", "27999", "--bind", "127.0.0.1", "--save", "", "--appendonly", os.Getenv("AOF"), "--auto-aof-rewrite-percentage", "0", "--dir", t.TempDir())
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { cmd.Process.Kill(); cmd.Wait() }()
	c := redis.NewClient(&redis.Options{Addr: "127.0.0.1:27999", MaxRetries: 100})
	defer c.Close()
	for c.Ping(ctx).Err() != nil {
		time.Sleep(10 * time.Millisecond)
	}
	only := os.Getenv("ONLY")
	total, _ := strconv.Atoi(os.Getenv("TOTAL"))
	if total == 0 {
		total = 200_000
	}
	names := []string{}
	for n := range scripts {
		names = append(names, n)
	}
	// sorted
	for i := range names {
		for j := range names {
			if names[i] < names[j] {
				names[i], names[j] = names[j], names[i]
			}
		}
	}
	payload := make([]byte, 1024)
	for _, n := range names {
		if only != "" && !regexp.MustCompile(only).MatchString(n) {
			continue
		}
		if !strings.Contains(n, "keep") {
			c.FlushDB(ctx)
		}
		s := redis.NewScript(scripts[n])
		s.Load(ctx, c)
		var ids []string
		if n[0] == 'm' {
			c.XGroupCreateMkStream(ctx, "in", "g", "0")
			c.ZAdd(ctx, "members", redis.Z{Score: 1e15, Member: "me"})
			for range total / 200 {
				p := c.Pipeline()
				for range 200 {
					p.XAdd(ctx, &redis.XAddArgs{Stream: "in", Values: []any{"payload", "x"}})
				}
				p.Exec(ctx)
				x, err := c.XReadGroup(ctx, &redis.XReadGroupArgs{Group: "g", Consumer: "me", Streams: []string{"in", ">"}, Count: 200}).Result()
				if err != nil {
					t.Fatal(err)
				}
				for _, e := range x[0].Messages {
					ids = append(ids, e.ID)
				}
			}
		}
		c.ConfigResetStat(ctx)
		cpu0 := cpu(ctx, c)
		for at := 0; at < total; at += 200 {
			args := []any{200}
			for i := range 200 {
				p := payload
				if n[0] >= 'e' && n[0] < 'm' || n[0] == 'p' {
					p = nil
				}
				args = append(args, id(at+i), "uuid-uuid-uuid-1", "\x81metadata", p, fmt.Sprintf("1700000000000-%d", i))
			}
			if n == "n-pipe xadd" {
				p := c.Pipeline()
				for i := range 200 {
					p.XAdd(ctx, &redis.XAddArgs{Stream: "out", Values: []any{"_watermill_message_uuid", "uuid-uuid-uuid-1", "metadata", "\x81metadata", "payload", payload}})
					_ = i
				}
				p.Exec(ctx)
				if at%20000 == 0 {
					c.Del(ctx, "out")
				}
				continue
			}
			keys := []string{"out", "in"}
			if n[0] == 'm' {
				args = []any{"me", "g", 10000000, 0, 0, strings.Repeat("\x00\x01\x00\x01\x00\x01", 200), strings.Repeat("\x06", 200), strings.Repeat("\x00", 200)}
				for i := range 200 {
					args = append(args, append(id(at+i), 'x', 'y'))
				}
				for range 200 {
					args = append(args, "uuid-uuid-uuid-1", "\x81metadata", payload)
				}
				for i := range 200 {
					args = append(args, ids[at+i])
				}
				keys = []string{"members", "in", "marks", "leases", "lanes", "out"}
			}
			if err := s.EvalSha(ctx, c, keys, args...).Err(); err != nil && err != redis.Nil {
				t.Fatal(n, err)
			}
			if at%20000 == 0 {
				c.Del(ctx, "out")
			}
		}
		cpu1 := cpu(ctx, c)
		info, _ := c.Info(ctx, "commandstats").Result()
		m := usec.FindStringSubmatch(info)
		if m == nil {
			m = []string{"", "0", "0"}
		}
		u, _ := strconv.Atoi(m[2])
		fmt.Printf("%-20s evalsha %.2f us/msg, server cpu %.2f us/msg\n", n, float64(u)/float64(total), (cpu1-cpu0)*1e6/float64(total))
		for _, l := range regexp.MustCompile(`cmdstat_(xadd|xack|hsetnx|hlen|hget|hgetall|hset|get|set|setrange|append|sadd|smismember):.*`).FindAllString(info, -1) {
			fmt.Println("      ", l[:60])
		}
	}
}

func cpu(ctx context.Context, c *redis.Client) float64 {
	info, _ := c.Info(ctx, "cpu").Result()
	s := 0.0
	for _, m := range regexp.MustCompile(`used_cpu_(?:sys|user)_main_thread:([\d.]+)`).FindAllStringSubmatch(info, -1) {
		f, _ := strconv.ParseFloat(m[1], 64)
		s += f
	}
	return s
}
