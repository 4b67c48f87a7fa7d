package servers

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"slices"
	"strings"
)

// The servers by name.
const (
	Kafka         = "kafka"
	RabbitMQ      = "rabbitmq"
	Redis         = "redis"
	SQS           = "sqs"
	Postgres      = "postgres"
	MariaDB       = "mariadb"
	RedisCluster  = "redis-cluster"
	RedisSentinel = "redis-sentinel"
)

// Names lists every server, the default ones first.
func Names() []string { return append(DefaultNames(), RedisSentinel) }

// DefaultNames lists what `up` brings up when it is not told.
func DefaultNames() []string {
	return []string{Kafka, RabbitMQ, Redis, RedisCluster, SQS, Postgres, MariaDB}
}

// How an address was had.
const (
	FromEnvironment = "environment"
	FromCompose     = "docker compose"
	FromNative      = "native"
	InProcess       = "in process"
)

// Address is where a server answers.
type Address struct {
	Name string `json:"name"`
	// URL is the one string a client takes:
	//
	//	kafka, redis-cluster  host:port,host:port
	//	rabbitmq              amqp://user:password@host:port/
	//	redis                 redis://host:port/0
	//	sqs                   http://host:port
	//	postgres              postgres://user:password@host:port/database
	//	mariadb               user:password@tcp(host:port)/database
	//	redis-sentinel        redis-sentinel://host:port,host:port/master
	URL string `json:"url"`
	// Hosts are the host:port pairs in URL.
	Hosts []string `json:"hosts"`
	// Master is the name of the master group (redis-sentinel).
	Master string `json:"master,omitempty"`
	// Management is the base URL of the HTTP API, with credentials (rabbitmq), or "".
	Management string `json:"management,omitempty"`
	// Secure is a host:port that takes TLS and credentials only, and CAFile the
	// certificate that proves it (kafka, native, one node); or "".
	Secure string `json:"secure,omitempty"`
	CAFile string `json:"ca_file,omitempty"`
	// Version is what the server said of itself; "" when it was not asked.
	Version string `json:"version,omitempty"`
	// Origin is one of FromEnvironment, FromCompose, FromNative and InProcess.
	Origin string `json:"origin"`
}

// Variable is the environment variable that gives a server's address.
func Variable(name string) string {
	return "HAPAX_TEST_" + strings.ToUpper(strings.ReplaceAll(name, "-", "_"))
}

// CheckName returns an error that lists the known servers when name is none of them.
func CheckName(name string) error {
	if slices.Contains(Names(), name) {
		return nil
	}
	return fmt.Errorf("unknown server %q: expected one of %s", name, strings.Join(Names(), ", "))
}

// ParseAddress reads an address in the form that Address.URL documents. Short
// forms are completed: a bare host:port for redis, a mysql:// or mariadb:// URL
// for mariadb.
func ParseAddress(name, value string) (Address, error) {
	if err := CheckName(name); err != nil {
		return Address{}, err
	}
	a := Address{Name: name, URL: strings.TrimSpace(value)}
	if err := a.parse(); err != nil {
		return Address{}, fmt.Errorf("read address of %s %q: %w", name, value, err)
	}
	return a, nil
}

func (a *Address) parse() error {
	switch a.Name {
	case Kafka, RedisCluster:
		return a.hostList(a.URL)
	case RedisSentinel:
		list, master, ok := strings.Cut(strings.TrimPrefix(a.URL, "redis-sentinel://"), "/")
		if !ok || master == "" || !strings.HasPrefix(a.URL, "redis-sentinel://") {
			return errors.New("expected redis-sentinel://host:port,host:port/master")
		}
		a.Master = master
		return a.hostList(list)
	case RabbitMQ:
		return a.fromURL("5672", "amqp", "amqps")
	case Redis:
		if !strings.Contains(a.URL, "://") {
			a.URL = "redis://" + a.URL + "/0"
		}
		return a.fromURL("6379", "redis", "rediss")
	case SQS:
		return a.fromURL("", "http", "https")
	case Postgres:
		return a.fromURL("5432", "postgres", "postgresql")
	default:
		return a.mariaDB()
	}
}

func (a *Address) hostList(list string) error {
	for host := range strings.SplitSeq(list, ",") {
		host = strings.TrimSpace(host)
		if h, port, err := net.SplitHostPort(host); err != nil || h == "" || port == "" {
			return fmt.Errorf("found %q, expected host:port", host)
		}
		a.Hosts = append(a.Hosts, host)
	}
	return nil
}

func (a *Address) fromURL(defaultPort string, schemes ...string) error {
	u, err := url.Parse(a.URL)
	if err != nil {
		return err
	}
	if u.Hostname() == "" || !slices.Contains(schemes, u.Scheme) {
		return fmt.Errorf("expected %s://host:port", strings.Join(schemes, ":// or "))
	}
	port := u.Port()
	if port == "" {
		port = defaultPort
	}
	if port == "" {
		port = map[string]string{"http": "80", "https": "443"}[u.Scheme]
	}
	a.Hosts = []string{net.JoinHostPort(u.Hostname(), port)}
	return nil
}

func (a *Address) mariaDB() error {
	if u, err := url.Parse(a.URL); err == nil && (u.Scheme == "mysql" || u.Scheme == "mariadb") {
		password, _ := u.User.Password()
		host := u.Host
		if u.Port() == "" {
			host = net.JoinHostPort(u.Hostname(), "3306")
		}
		a.URL = fmt.Sprintf("%s:%s@tcp(%s)%s", u.User.Username(), password, host, u.RequestURI())
	}
	_, rest, ok := strings.Cut(a.URL, "@tcp(")
	host, _, closed := strings.Cut(rest, ")/")
	if !ok || !closed {
		return errors.New("expected user:password@tcp(host:port)/database")
	}
	return a.hostList(host)
}
