// Package openapi holds the OpenAPI document (version 2) of the HTTP API, as it is generated from protos/.
package openapi

import _ "embed"

//go:embed ticketrush.swagger.json
var Document []byte
