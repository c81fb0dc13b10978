// The load of `python -m bench packets`, `voice`, `smoothness`, `churn` and `memory`: calls of Pion's against one
// server, over loopback, with DTLS and SRTP. Two modes:
//
//	rtp    N calls stand; each sends a packet every 20 ms, spread evenly over them, in a window of some seconds
//	churn  N calls are set up and torn down, some at a time
//
// What it does is told on stdout, a line each: READY, START, STOP, and RESULT with JSON. The server's processor
// time is what whoever runs this reads between START and STOP.
package main

import (
	"flag"
	"fmt"
	"os"
	"runtime/debug"
)

var options struct {
	mode     string
	offer    string
	calls    int
	atOnce   int
	seconds  float64
	warm     float64
	packets  string
	silent   bool
	events   bool
	returned int
	rate     float64
}

func main() {
	flag.StringVar(&options.mode, "mode", "rtp", "rtp or churn")
	flag.StringVar(&options.offer, "offer", "", "the URL that takes {sdp, type}")
	flag.IntVar(&options.calls, "calls", 1, "how many")
	flag.IntVar(&options.atOnce, "at-once", 4, "set-ups at a time")
	flag.Float64Var(&options.seconds, "seconds", 5, "length of the window")
	flag.Float64Var(&options.warm, "warm", 2, "seconds of sound before the window")
	flag.StringVar(&options.packets, "packets", "", "a file of Opus packets of 20 ms, each behind its length in two bytes")
	flag.BoolVar(&options.silent, "silent", false, "send no sound")
	flag.BoolVar(&options.events, "events", false, "open the data channel `events`")
	flag.IntVar(&options.returned, "returned", 0, "send back what is heard, so many packets later: a loudspeaker beside the microphone")
	flag.Float64Var(&options.rate, "rate", 0, "set-ups a second; 0: as fast as they go")
	flag.Parse()
	debug.SetGCPercent(-1) // no collector beside the pacing: a run is short
	debug.SetMemoryLimit(2 << 30)
	if err := readPackets(options.packets); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	var err error
	switch options.mode {
	case "rtp":
		err = stand()
	case "churn":
		err = churn()
	default:
		err = fmt.Errorf("no such mode: %s", options.mode)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
