// Go's net/http. usage: server port certificate key
package main

import (
	"bytes"
	"crypto/tls"
	"io"
	"net/http"
	"os"
	"strconv"
	"time"
)

func answer(body []byte) http.HandlerFunc {
	length := strconv.Itoa(len(body))
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/plain")
		w.Header().Set("Content-Length", length)
		w.Write(body)
	}
}

func main() {
	hello := answer([]byte("Hello, world\n"))
	http.HandleFunc("/", hello)
	http.HandleFunc("/100k", answer(bytes.Repeat([]byte("x"), 100*1024)))
	http.HandleFunc("/10m", answer(bytes.Repeat([]byte("x"), 10*1024*1024)))
	http.HandleFunc("/busy", func(w http.ResponseWriter, r *http.Request) {
		for end := time.Now().Add(5 * time.Millisecond); time.Now().Before(end); {
		}
		hello(w, r)
	})
	http.HandleFunc("/echo", func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		answer(body)(w, r)
	})
	http.HandleFunc("/upload", func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		hello(w, r)
	})
	server := &http.Server{Addr: "127.0.0.1:" + os.Args[1], TLSConfig: &tls.Config{}}
	panic(server.ListenAndServeTLS(os.Args[2], os.Args[3]))
}
