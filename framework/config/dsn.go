package config

import (
	"fmt"
	"log/slog"
	"net/url"
	"regexp"
	"strings"
)

// DSN is a connection string: a URL, or the form of a database driver. It prints
// with its password masked, and only the password, in the same places where a
// Secret prints nothing. One that cannot be taken apart is masked whole.
type DSN string

// Reveal returns the connection string with its password.
func (d DSN) Reveal() string { return string(d) }

var (
	urlForm     = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9+.-]*://`)
	keywordForm = regexp.MustCompile(`^\s*[A-Za-z_]+\s*=`)
	mysqlForm   = regexp.MustCompile(`@[a-z0-9]*\(|^[^:@/]*(:.*)?@/`)
	fileForm    = regexp.MustCompile(`^(file|sqlite):`)
	filePath    = regexp.MustCompile(`\.(db|sqlite|sqlite3)$`)

	// A keyword's value is quoted with ' (where \ escapes) or ends at a space.
	keywordPassword = regexp.MustCompile(`(?i)([a-z_]*(?:pass|pwd|secret|token)[a-z_]*\s*=\s*)('(?:[^'\\]|\\.)*'?|(?:[^\s\\]|\\.)+)`)
	queryPassword   = regexp.MustCompile(`(?i)([?&][^=&#]*(?:pass|pwd|secret|token)[^=&#]*=)[^&#]*`)
)

// Driver tells from the form of the connection string what it points to:
// "postgres", "mysql", "sqlite" or "redis"; "" when it is none of them.
func (d DSN) Driver() string {
	text := string(d)
	if scheme := urlForm.FindString(text); scheme != "" {
		switch strings.ToLower(strings.TrimSuffix(scheme, "://")) {
		case "postgres", "postgresql":
			return "postgres"
		case "mysql", "mariadb":
			return "mysql"
		case "redis", "rediss":
			return "redis"
		case "file", "sqlite":
			return "sqlite"
		}
		return ""
	}
	switch {
	case fileForm.MatchString(text):
		return "sqlite"
	case keywordForm.MatchString(text):
		return "postgres"
	case mysqlForm.MatchString(text):
		return "mysql"
	case filePath.MatchString(text):
		return "sqlite"
	}
	return ""
}

// String returns the connection string with its password masked.
func (d DSN) String() string {
	text := string(d)
	switch {
	case urlForm.MatchString(text):
		return maskURL(text)
	case keywordForm.MatchString(text):
		return keywordPassword.ReplaceAllString(text, "${1}"+mask)
	case mysqlForm.MatchString(text):
		return maskMySQL(text)
	case strings.Contains(text, "@"):
		return mask
	}
	return queryPassword.ReplaceAllString(text, "${1}"+mask)
}

func maskURL(text string) string {
	parsed, err := url.Parse(text)
	if err != nil {
		return mask
	}
	if strings.Contains(parsed.Path+parsed.Fragment+parsed.RawQuery, "@") {
		// "postgres://user:1/2@host" or "user:@#2@host": an unescaped / or # in
		// the password ends the authority, and what is left of it looks like a
		// path or a fragment.
		return mask
	}
	// Cut by hand rather than re-encoded by net/url, so that the rest prints
	// exactly as it was written.
	if _, has := parsed.User.Password(); has {
		scheme := len(urlForm.FindString(text))
		// net/url ends the authority at the first of / ? #, and the user at the
		// last @ before it; it has refused a string where that is ambiguous.
		authority := text[scheme:]
		if end := strings.IndexAny(authority, "/?#"); end >= 0 {
			authority = authority[:end]
		}
		at := strings.LastIndex(authority, "@")
		colon := strings.Index(authority[:max(at, 0)], ":")
		if at < 0 || colon < 0 {
			return mask
		}
		text = text[:scheme+colon+1] + mask + text[scheme+at:]
	}
	return queryPassword.ReplaceAllString(text, "${1}"+mask)
}

// maskMySQL follows the driver's grammar: the last / ends the address, the last
// @ before it ends the user, and the first : in that begins the password.
func maskMySQL(text string) string {
	slash := strings.LastIndex(text, "/")
	if slash < 0 {
		return mask
	}
	at := strings.LastIndex(text[:slash], "@")
	if at < 0 {
		return mask
	}
	if colon := strings.Index(text[:at], ":"); colon >= 0 {
		text = text[:colon+1] + mask + text[at:]
	}
	return queryPassword.ReplaceAllString(text, "${1}"+mask)
}

// Format masks the password under every verb.
func (d DSN) Format(state fmt.State, verb rune) { formatMasked(state, verb, d.String()) }

// LogValue masks the password in slog.
func (d DSN) LogValue() slog.Value { return slog.StringValue(d.String()) }

// MarshalText masks the password in JSON, YAML and every other text form.
func (d DSN) MarshalText() ([]byte, error) { return []byte(d.String()), nil }
