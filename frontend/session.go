package main

import (
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net/http"
	"os"
	"regexp"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/google/uuid"
	"google.golang.org/grpc/codes"
)

// For as long as one evening's demonstration takes to forget that it is signed in.
const sessionTime = time.Hour

// As the gateway takes a buyer_id.
var nameForm = regexp.MustCompile(`^[A-Za-z0-9._@:-]{1,64}$`)

// session is the sign-in of a local stack: whoever asks is given a token. It stands in for an identity provider.
type session struct {
	key      *rsa.PrivateKey
	kid      string
	issuer   string
	audience string
}

func newSession(file, issuer, audience string) (*session, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(text)
	if block == nil {
		return nil, fmt.Errorf("%s holds no key in PEM", file)
	}
	found, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	key, is := found.(*rsa.PrivateKey)
	if err != nil || !is {
		return nil, fmt.Errorf("%s holds no RSA key", file)
	}
	known, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		return nil, err
	}
	digest := sha256.Sum256(known)
	// As deploy/issuer.py names the key in its set.
	return &session{key: key, kid: hex.EncodeToString(digest[:])[:16], issuer: issuer, audience: audience}, nil
}

func (s *session) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodPost {
		refuseMethod(w, r, http.MethodPost)
		return
	}
	// A page from elsewhere whose name leads to this machine would else be given tokens, too.
	if !isLoopback(withPort(r.Host)) {
		refuse(w, r, &problem{code: codes.PermissionDenied, reason: "NOT_ALLOWED", message: "signing in is for this machine alone"})
		return
	}
	name, role, err := wanted(callOf(r.Context()).body)
	if err != nil {
		refuse(w, r, err)
		return
	}
	now := time.Now()
	end := now.Add(sessionTime).Truncate(time.Second)
	made := jwt.NewWithClaims(jwt.SigningMethodRS256, jwt.MapClaims{
		"iss": s.issuer, "aud": s.audience, "sub": name, "roles": []string{role},
		"iat": now.Unix(), "exp": end.Unix(), "jti": uuid.NewString(),
	})
	made.Header["kid"] = s.kid
	token, err := made.SignedString(s.key)
	if err != nil {
		panic(err)
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(map[string]string{
		"token": token, "subject": name, "expire_time": end.UTC().Format(time.RFC3339),
	})
}

func wanted(body []byte) (name, role string, err error) {
	var asked struct {
		Name string `json:"name"`
		Role string `json:"role"`
	}
	reader := json.NewDecoder(strings.NewReader(string(body)))
	reader.DisallowUnknownFields()
	if err := reader.Decode(&asked); err != nil {
		return "", "", malformed("the body must be like {\"name\": \"ada\", \"role\": \"BUYER\"}")
	}
	if !nameForm.MatchString(asked.Name) {
		return "", "", &problem{code: codes.InvalidArgument, reason: "INVALID_ARGUMENT", field: "name",
			message: "name: must be 1 to 64 characters out of letters, digits, . _ - @ :"}
	}
	if asked.Role != "BUYER" && asked.Role != "ORGANISER" {
		return "", "", &problem{code: codes.InvalidArgument, reason: "INVALID_ARGUMENT", field: "role",
			message: "role: must be BUYER or ORGANISER"}
	}
	return asked.Name, strings.ToLower(asked.Role), nil
}

func withPort(host string) string {
	if strings.Contains(strings.TrimPrefix(host[strings.LastIndexByte(host, ']')+1:], "]"), ":") {
		return host
	}
	return host + ":80"
}
