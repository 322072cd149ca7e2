package main

import (
	"log/slog"
	"os"
	"strings"
	"sync"
	"time"
)

// How often the file is looked at, at most; and so how soon a new token is used.
const tokenLookInterval = time.Second

// ownToken is the one that we show for callers who bring none.
type ownToken struct {
	mu     sync.Mutex
	text   string
	file   string
	looked time.Time
	seen   time.Time
}

// current is the token, as the file has it now; "" without one. A file that cannot be read leaves the one of before.
func (t *ownToken) current() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.file == "" || time.Since(t.looked) < tokenLookInterval {
		return t.text
	}
	t.looked = time.Now()
	about, err := os.Stat(t.file)
	if err == nil && about.ModTime().Equal(t.seen) {
		return t.text
	}
	held, err := os.ReadFile(t.file)
	if err != nil {
		slog.Warn("not the new token, the one of before: " + err.Error())
		return t.text
	}
	t.text = strings.TrimSpace(string(held))
	t.seen = about.ModTime()
	return t.text
}
