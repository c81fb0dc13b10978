package main

import (
	"math"
	"slices"
	"sort"
)

var percentiles = []float64{50, 95, 99, 99.9, 100}

// timeline is what became of one call's packets.
type timeline struct {
	late  []float64 // ms behind the call's own schedule
	at    []float64 // when: seconds of the clock that the kernel stamps with
	lost  int       // numbers that are missing
	jumps int       // timestamps that do not follow from the sequence numbers
}

// trace holds the packets of one call against their own RTP timestamps: the schedule is that of the earliest
// hundredth, and a packet is late by what it comes after that.
func trace(packets []packet) (t timeline) {
	if len(packets) < 10 {
		return
	}
	offsets := make([]float64, len(packets))
	var elapsed int64
	for i, p := range packets {
		if i > 0 {
			before := packets[i-1]
			moved, step := int32(p.timestamp-before.timestamp), int16(p.sequence-before.sequence)
			elapsed += int64(moved)
			if step > 1 {
				t.lost += int(step) - 1
			}
			if moved != ticks*int32(step) {
				t.jumps++
			}
		}
		offsets[i] = float64(p.at-packets[0].at)/1e6 - float64(elapsed)/48
	}
	ordered := append([]float64{}, offsets...)
	sort.Float64s(ordered)
	base := ordered[len(ordered)/100]
	for _, offset := range offsets {
		t.late = append(t.late, math.Max(0, offset-base))
	}
	for _, p := range packets {
		t.at = append(t.at, float64(p.at)/1e9)
	}
	return
}

const (
	gapsTold = 100
	gapApart = 0.1 // seconds between two packets that are late by reasons of their own
)

// worst returns the latest packets, each as when it came and by how many ms it was late, one of each gap.
func worst(heard []timeline) [][2]float64 {
	var all [][2]float64
	for _, t := range heard {
		for i, late := range t.late {
			all = append(all, [2]float64{t.at[i], late})
		}
	}
	sort.Slice(all, func(i, j int) bool { return all[i][1] > all[j][1] })
	found := [][2]float64{}
	for _, one := range all {
		near := func(other [2]float64) bool { return math.Abs(other[0]-one[0]) < gapApart }
		if !slices.ContainsFunc(found, near) {
			found = append(found, one)
		}
		if len(found) == gapsTold {
			break
		}
	}
	return found
}

// summarize returns the lateness of what came and of what went, and what was lost.
func summarize(calls []*call) map[string]any {
	var came, went []float64
	var timelines []timeline
	lost, jumps, mute := 0, 0, 0
	for _, c := range calls {
		c.socket.mutex.Lock()
		heard, said := trace(c.socket.came), trace(c.socket.went)
		if len(c.socket.came) == 0 {
			mute++
		}
		c.socket.mutex.Unlock()
		came, went = append(came, heard.late...), append(went, said.late...)
		timelines = append(timelines, heard)
		lost += heard.lost
		jumps += heard.jumps
	}
	return map[string]any{
		"late_ms": at(came, percentiles), "sent_late_ms": at(went, percentiles), "lost": lost, "jumps": jumps, "mute": mute,
		"gaps": worst(timelines),
	}
}

// at returns percentiles of values, -1 where there are none.
func at(values, percentiles []float64) (found []float64) {
	sort.Float64s(values)
	for _, percentile := range percentiles {
		if len(values) == 0 {
			found = append(found, -1)
			continue
		}
		place := max(0, int(math.Ceil(percentile/100*float64(len(values))))-1)
		found = append(found, math.Round(values[place]*1000)/1000)
	}
	return
}
