# golang:*: the compiler of this machine, or the one that pip installs, on Debian.
FROM ticketrush-stand-in:debian
ENV PATH=/usr/local/go/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin GOPATH=/go GOTOOLCHAIN=local
COPY go /usr/local/go
CMD ["go"]
