package main

import (
	"bytes"
	_ "embed"
	"encoding/json"
	"html/template"
	"maps"
	"net/http"
	"regexp"
	"slices"
	"strings"

	"ticketrush/gen/openapi"
)

// routes is what the OpenAPI document says of paths; read once.
var routes = routesOf(openapi.Document)

//go:embed docs.html
var docsHTML string

//go:embed docs.css
var docsCSS []byte

// document is what we read of an OpenAPI 2 document.
type document struct {
	Info struct {
		Title       string
		Description string
		Version     string
	}
	Tags        []struct{ Name, Description string }
	Paths       map[string]map[string]*operation
	Definitions map[string]schema
}

type operation struct {
	Method      string
	Path        string
	Summary     string
	Description string
	OperationID string `json:"operationId"`
	Parameters  []parameter
	Responses   map[string]struct{ Schema schema }
	Tags        []string
	Produces    []string
}

type parameter struct {
	Name        string
	In          string
	Description string
	Type        string
	Format      string
	Schema      schema
}

type schema struct {
	Ref         string `json:"$ref"`
	Title       string
	Type        string
	Format      string
	Description string
	Enum        []string
	Items       *schema
	Properties  map[string]schema
}

// Kind says in a word what a value is.
func (s schema) Kind() string {
	switch {
	case s.Ref != "":
		return strings.TrimPrefix(s.Ref, "#/definitions/")
	case s.Type == "array" && s.Items != nil:
		return "list of " + s.Items.Kind()
	case s.Format != "":
		return s.Type + " (" + s.Format + ")"
	}
	return s.Type
}

// Link is where on the page the definition is that it refers to; "" if it refers to none.
func (s schema) Link() string {
	if s.Items != nil {
		return s.Items.Link()
	}
	return strings.TrimPrefix(s.Ref, "#/definitions/")
}

// Answer is what comes back when all is well.
func (o *operation) Answer() schema {
	found := o.Responses["200"].Schema
	if result, is := found.Properties["result"]; is { // of a stream
		return result
	}
	return found
}

func (o *operation) IsStream() bool { return len(o.Produces) > 0 }

// Operations of one service, in the order of their paths.
func (d *document) Operations(tag string) (found []*operation) {
	for _, path := range slices.Sorted(maps.Keys(d.Paths)) {
		for _, method := range slices.Sorted(maps.Keys(d.Paths[path])) {
			one := d.Paths[path][method]
			if slices.Contains(one.Tags, tag) {
				one.Method, one.Path = strings.ToUpper(method), path
				found = append(found, one)
			}
		}
	}
	return found
}

func read(text []byte) *document {
	var found document
	if err := json.Unmarshal(text, &found); err != nil { // it is part of the program
		panic(err)
	}
	return &found
}

// docsPage is the document as a page for people: no script, nothing from elsewhere.
func docsPage() []byte {
	var page bytes.Buffer
	if err := template.Must(template.New("docs").Parse(docsHTML)).Execute(&page, read(openapi.Document)); err != nil {
		panic(err)
	}
	return page.Bytes()
}

// route is a path of the document: the operations at it, by method.
type route struct {
	path       *regexp.Regexp
	operations map[string]*operation
}

type routeTable []route

var inTemplate = regexp.MustCompile(`\\\{[^}]*\\\}`)

func routesOf(text []byte) (found routeTable) {
	for path, operations := range read(text).Paths {
		// No id holds a colon: that begins a verb.
		pattern := inTemplate.ReplaceAllString(regexp.QuoteMeta(path), `([^/:]+)`)
		one := route{path: regexp.MustCompile("^" + pattern + "$"), operations: map[string]*operation{}}
		for method, what := range operations {
			one.operations[strings.ToUpper(method)] = what
		}
		found = append(found, one)
	}
	return found
}

// find gives what a path may be asked, by method, and the id in it; nothing for an unknown path.
func (t routeTable) find(path string) (operations map[string]*operation, id string) {
	for _, one := range t {
		if found := one.path.FindStringSubmatch(path); found != nil {
			if len(found) > 1 {
				id = found[1]
			}
			if operations == nil {
				operations = map[string]*operation{}
			}
			maps.Copy(operations, one.operations)
		}
	}
	return operations, id
}

// still serves what never changes while we run.
func still(kind string, body []byte) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			refuseMethod(w, r, http.MethodGet, http.MethodHead)
			return
		}
		w.Header().Set("Content-Type", kind)
		w.Header().Set("Cache-Control", "no-cache")
		_, _ = w.Write(body)
	})
}
