// Go's net/http. usage: server port certificate key
package main

import (
	"bytes"
	"crypto/tls"
	"io"
	"net/http"
	"os"
	"sort"
	"strconv"
	"sync/atomic"
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

var sum uint32 = 1

func spin(rounds int) {
	x := atomic.LoadUint32(&sum)
	for i := 0; i < rounds; i++ {
		x = x*1664525 + 1013904223
	}
	atomic.StoreUint32(&sum, x)
}

// The rounds of spin that take five milliseconds of a core that does nothing else, by the median of many attempts.
func measureWork() int {
	const rounds = 2000000
	var took [81]time.Duration
	for attempt := range took {
		begin := time.Now()
		spin(rounds)
		took[attempt] = time.Since(begin)
	}
	sort.Slice(took[:], func(a, b int) bool { return took[a] < took[b] })
	return int(rounds * int64(5*time.Millisecond) / int64(took[len(took)/2]))
}

func main() {
	work := measureWork()
	hello := answer([]byte("Hello, world\n"))
	http.HandleFunc("/", hello)
	http.HandleFunc("/100k", answer(bytes.Repeat([]byte("x"), 100*1024)))
	http.HandleFunc("/10m", answer(bytes.Repeat([]byte("x"), 10*1024*1024)))
	http.HandleFunc("/busy", func(w http.ResponseWriter, r *http.Request) {
		spin(work)
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
