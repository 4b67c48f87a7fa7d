package main

import (
	"bytes"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// Long work says so, in few lines where nobody looks; short work says nothing.
func TestProgress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		count, err := during(&out, "counting", func() (int, error) { time.Sleep(25 * time.Second); return 7, errors.New("no table") })
		require.Equal(t, 7, count)
		require.EqualError(t, err, "no table")
		require.Equal(t, "counting: 10s\ncounting: 20s\n", out.String())

		out.Reset()
		_, err = during(&out, "counting", func() (int, error) { time.Sleep(9 * time.Second); return 0, nil })
		require.NoError(t, err)
		require.Empty(t, out.String())

		steps := newProgress(&out, "letters put back")
		for range 25 {
			time.Sleep(time.Second)
			steps.step()
		}
		steps.done()
		require.Equal(t, "11 letters put back\n22 letters put back\n", out.String())
	})
}
