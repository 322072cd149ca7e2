package main

import (
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"net/http"
	"path"
)

// The page for people: plain HTML, CSS and modules, as they lie in the folder.
//
//go:embed page
var pageFiles embed.FS

// What the page may do: take its own files and call its own origin. What is no script can become none: Trusted Types without a policy.
const pageRule = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; " +
	"base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"

// Said here, not taken from the machine's own table.
var pageKinds = map[string]string{
	".html": "text/html; charset=utf-8",
	".css":  "text/css; charset=utf-8",
	".js":   "text/javascript; charset=utf-8",
	".svg":  "image/svg+xml",
}

// servePage adds the page at / and its files at /page/.
func servePage(mux *http.ServeMux) {
	entries, err := pageFiles.ReadDir("page")
	if err != nil { // it is part of the program
		panic(err)
	}
	for _, entry := range entries {
		body, err := pageFiles.ReadFile("page/" + entry.Name())
		if err != nil {
			panic(err)
		}
		at, kind := "/page/"+entry.Name(), pageKinds[path.Ext(entry.Name())]
		if entry.Name() == "index.html" {
			at = "/"
		}
		mux.Handle(at, under(pageRule, compressed(tagged(body, still(kind, body)))))
	}
}

// tagged spares who has it already the body.
func tagged(body []byte, next http.Handler) http.Handler {
	digest := sha256.Sum256(body)
	tag := `W/"` + hex.EncodeToString(digest[:8]) + `"`
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("ETag", tag)
		if r.Header.Get("If-None-Match") == tag && r.Method == http.MethodGet {
			w.Header().Set("Cache-Control", "no-cache")
			w.WriteHeader(http.StatusNotModified)
			return
		}
		next.ServeHTTP(w, r)
	})
}
