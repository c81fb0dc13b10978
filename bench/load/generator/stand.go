package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// stand sets all calls up, lets them speak, and measures for the length of the window.
func stand() error {
	calls, failed := dialAll()
	fmt.Println("READY", len(calls), "failed", failed)
	if len(calls) == 0 {
		return errors.New("not one call came about")
	}
	stop, stopped := make(chan struct{}), make(chan struct{})
	if options.silent {
		close(stopped)
	} else {
		go speak(calls, stop, stopped)
	}
	time.Sleep(seconds(options.warm))
	before := count(calls)
	measuring.Store(true)
	fmt.Println("START")
	began := time.Now()
	time.Sleep(seconds(options.seconds))
	measuring.Store(false)
	elapsed := time.Since(began)
	fmt.Println("STOP")
	after := count(calls)
	close(stop)
	<-stopped
	result := summarize(calls)
	result["calls"], result["failed"], result["seconds"] = len(calls), failed, elapsed.Seconds()
	result["came"], result["went"] = after.came-before.came, after.went-before.went
	if err := tell(result); err != nil {
		return err
	}
	for _, c := range calls {
		c.connection.Close()
	}
	return nil
}

func dialAll() ([]*call, int64) {
	dialed := make([]*call, options.calls)
	places := make(chan struct{}, options.atOnce)
	var all sync.WaitGroup
	var failed atomic.Int64
	for i := range dialed {
		all.Add(1)
		places <- struct{}{}
		go func() {
			defer func() { <-places; all.Done() }()
			c, err := dial()
			if err == nil {
				err = c.wait()
			}
			if err != nil {
				failed.Add(1)
				fmt.Fprintln(os.Stderr, "call", i, err)
				return
			}
			c.next = i * 37
			dialed[i] = c
		}()
	}
	all.Wait()
	calls := []*call{}
	for _, c := range dialed {
		if c != nil {
			calls = append(calls, c)
		}
	}
	return calls, failed.Load()
}

// speak lets the calls send in turn, so that within each 20 ms the packets are spread evenly.
func speak(calls []*call, stop, stopped chan struct{}) {
	defer close(stopped)
	runtime.LockOSThread() // a sleep of its own: Go's timers wake on whole milliseconds
	began := time.Now()
	for k := 0; ; k++ {
		select {
		case <-stop:
			return
		default:
		}
		at := began.Add(time.Duration(k) * frame / time.Duration(len(calls)))
		if left := time.Until(at); left > 0 {
			pause := unix.NsecToTimespec(int64(left))
			_ = unix.Nanosleep(&pause, nil)
		}
		_ = calls[k%len(calls)].send() // one that fails is a packet that did not go, and is not counted as one
	}
}

type counts struct{ came, went int64 }

func count(calls []*call) (total counts) {
	for _, c := range calls {
		total.came += c.socket.cameAll.Load()
		total.went += c.socket.wentAll.Load()
	}
	return total
}

func seconds(value float64) time.Duration { return time.Duration(value * float64(time.Second)) }

func tell(result map[string]any) error {
	text, err := json.Marshal(result)
	if err == nil {
		fmt.Println("RESULT", string(text))
	}
	return err
}
