package main

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"
)

// How often the files are looked at, at most; and so how soon a new certificate is shown.
const certificateLookInterval = time.Second

// certificate is what callers are shown: of files that may be replaced while we run.
type certificate struct {
	certFile, keyFile string

	mu      sync.Mutex
	current *tls.Certificate
	looked  time.Time
	seen    [2]time.Time
}

func newCertificate(certFile, keyFile string) (*certificate, error) {
	c := &certificate{certFile: certFile, keyFile: keyFile}
	return c, c.read()
}

func (c *certificate) config() *tls.Config {
	return &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
		return c.newest(), nil
	}}
}

func (c *certificate) newest() *tls.Certificate {
	c.mu.Lock()
	defer c.mu.Unlock()
	if time.Since(c.looked) > certificateLookInterval {
		// Certificate and key are two files, and one of them is written first: until they fit, the ones of before.
		if err := c.read(); err != nil {
			slog.Warn("not the new certificate yet, the one of before: " + err.Error())
		}
	}
	return c.current
}

func (c *certificate) read() error {
	c.looked = time.Now()
	var times [2]time.Time
	for i, file := range []string{c.certFile, c.keyFile} {
		about, err := os.Stat(file)
		if err != nil {
			return err
		}
		times[i] = about.ModTime()
	}
	if c.current != nil && times == c.seen {
		return nil
	}
	found, err := tls.LoadX509KeyPair(c.certFile, c.keyFile)
	if err != nil {
		return fmt.Errorf("%s and %s are no certificate and its key: %w", c.certFile, c.keyFile, err)
	}
	c.current, c.seen = &found, times
	return nil
}

// authorities are those of a PEM file.
func authorities(file string) (*x509.CertPool, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(text) {
		return nil, fmt.Errorf("%s holds no certificate in PEM", file)
	}
	return pool, nil
}
