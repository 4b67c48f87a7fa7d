package launch

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
)

const (
	javaAtLeast       = 17
	mavenDependencies = "org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy-dependencies"
)

// artifact is a Maven artifact, pinned.
type artifact struct{ group, name, version string }

func (a artifact) String() string { return a.group + ":" + a.name + ":" + a.version }

// java returns a Java runtime that is new enough, installing one if there is none.
func (h *host) java(ctx context.Context, s *site) (string, error) {
	candidates := []string{filepath.Join(os.Getenv("JAVA_HOME"), "bin", "java"), find([]string{"java"})}
	for _, path := range candidates {
		if filepath.IsAbs(path) && javaVersion(ctx, path) >= javaAtLeast {
			return path, nil
		}
	}
	path, _, err := h.tool(ctx, s, []string{"/usr/lib/jvm/java-17-*/bin/java", "/usr/lib/jvm/java-21-*/bin/java", "/usr/lib/jvm/default-java/bin/java"},
		"openjdk-17-jre-headless", "openjdk-21-jre-headless", "default-jre-headless")
	if err != nil {
		return "", err
	}
	if found := javaVersion(ctx, path); found < javaAtLeast {
		return "", fmt.Errorf("found java %d in %s, expected %d or newer: set JAVA_HOME", found, path, javaAtLeast)
	}
	return path, nil
}

var javaMajor = regexp.MustCompile(`version "(?:1\.)?(\d+)`)

func javaVersion(ctx context.Context, path string) int {
	out, err := exec.CommandContext(ctx, path, "-version").CombinedOutput()
	if err != nil {
		return 0
	}
	match := javaMajor.FindSubmatch(out)
	if match == nil {
		return 0
	}
	major, _ := strconv.Atoi(string(match[1]))
	return major
}

// jars returns a folder with the artifacts and all they need, from the user's
// cache if it is there, else by Maven.
func (h *host) jars(ctx context.Context, s *site, artifacts ...artifact) (string, error) {
	pom := pomOf(artifacts)
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("find cache folder: %w", err)
	}
	first := artifacts[0]
	dir := filepath.Join(cache, "hapax", "servers", fmt.Sprintf("%s-%s-%x", first.name, first.version, sha256.Sum256([]byte(pom)))[:len(first.name)+len(first.version)+10])
	if _, err := os.Stat(dir); err == nil {
		return dir, nil
	}
	maven, _, err := h.tool(ctx, s, []string{"mvn"}, "maven")
	if err != nil {
		return "", err
	}
	s.step("downloading " + first.String())
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		return "", fmt.Errorf("make cache folder: %w", err)
	}
	// Renamed when complete: an interrupted download leaves nothing to be mistaken.
	fresh, err := os.MkdirTemp(filepath.Dir(dir), first.name+"-*.new")
	if err != nil {
		return "", fmt.Errorf("make cache folder: %w", err)
	}
	defer os.RemoveAll(fresh)
	file, err := s.write("pom.xml", pom)
	if err != nil {
		return "", err
	}
	out, err := exec.CommandContext(ctx, maven, "-B", "-ntp", "-f", file, mavenDependencies, "-DincludeScope=runtime", "-DoutputDirectory="+fresh).CombinedOutput()
	log, kept := s.write(filepath.Join("log", "maven.log"), string(out))
	if err := errors.Join(err, kept); err != nil {
		return "", fmt.Errorf("download %s: %w; see %s", first, err, log)
	}
	if err := os.Chmod(fresh, 0o755); err != nil {
		return "", fmt.Errorf("download %s: %w", first, err)
	}
	return dir, os.Rename(fresh, dir)
}

func pomOf(artifacts []artifact) string {
	pom := `<project xmlns="http://maven.apache.org/POM/4.0.0"><modelVersion>4.0.0</modelVersion>
<groupId>local</groupId><artifactId>servers</artifactId><version>1</version><packaging>pom</packaging>
<dependencies>
`
	for _, a := range artifacts {
		pom += fmt.Sprintf("<dependency><groupId>%s</groupId><artifactId>%s</artifactId><version>%s</version></dependency>\n", a.group, a.name, a.version)
	}
	return pom + "</dependencies>\n</project>\n"
}
