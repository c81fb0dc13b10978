package main

import (
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// churn sets calls up and tears them down, some at a time, and tells how long a call took to be connected.
func churn() error {
	var all sync.WaitGroup
	var mutex sync.Mutex
	var took []float64
	var begun, failed atomic.Int64
	fmt.Println("START")
	began := time.Now()
	for range options.atOnce {
		all.Add(1)
		go func() {
			defer all.Done()
			for {
				number := begun.Add(1)
				if number > int64(options.calls) {
					return
				}
				if options.rate > 0 {
					time.Sleep(time.Until(began.Add(seconds(float64(number) / options.rate))))
				}
				c, err := dial()
				if err == nil {
					err = c.wait()
				}
				if err != nil {
					failed.Add(1)
					fmt.Fprintln(os.Stderr, err)
					time.Sleep(50 * time.Millisecond)
				} else {
					mutex.Lock()
					took = append(took, float64(time.Since(c.began).Microseconds())/1e3)
					mutex.Unlock()
				}
				if c != nil {
					c.connection.Close()
					c.socket.Close()
				}
			}
		}()
	}
	all.Wait()
	elapsed := time.Since(began)
	time.Sleep(500 * time.Millisecond) // the server's part of the last goodbyes counts as well
	fmt.Println("STOP")
	return tell(map[string]any{
		"calls": len(took), "failed": failed.Load(), "seconds": elapsed.Seconds(), "connected_ms": at(took, percentiles),
	})
}
