package main

import (
	"encoding/binary"
	"net"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// measuring is true inside the window: packets are noted then.
var measuring atomic.Bool

// packet is what is kept of one that came or went: when (ns), and two fields of its header.
type packet struct {
	at        int64
	timestamp uint32
	sequence  uint16
}

// socket is a call's UDP socket. It notes RTP packets: those that come with the kernel's receive time, so that
// what this process does meanwhile is not part of the measurement.
type socket struct {
	*net.UDPConn
	control []byte
	mutex   sync.Mutex
	came    []packet
	went    []packet
	cameAll atomic.Int64
	wentAll atomic.Int64
}

func newSocket() (*socket, error) {
	udp, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		return nil, err
	}
	if err := udp.SetReadBuffer(1 << 21); err != nil {
		return nil, err
	}
	raw, err := udp.SyscallConn()
	if err != nil {
		return nil, err
	}
	var failed error
	if err := raw.Control(func(fd uintptr) {
		failed = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_TIMESTAMPNS, 1)
	}); err != nil {
		return nil, err
	}
	return &socket{UDPConn: udp, control: make([]byte, 128)}, failed
}

// isRTP tells RTP from STUN and DTLS by the version, from RTCP by the packet types 192-223 (RFC 5761 §4).
func isRTP(data []byte) bool {
	return len(data) >= 12 && data[0]>>6 == 2 && (data[1] < 192 || data[1] > 223)
}

func note(data []byte, at int64) packet {
	return packet{at, binary.BigEndian.Uint32(data[4:]), binary.BigEndian.Uint16(data[2:])}
}

func (s *socket) ReadFrom(into []byte) (int, net.Addr, error) {
	size, controlSize, _, from, err := s.UDPConn.ReadMsgUDP(into, s.control)
	if err != nil {
		return size, from, err
	}
	if isRTP(into[:size]) {
		s.cameAll.Add(1)
		if measuring.Load() {
			at := time.Now().UnixNano()
			if controlSize >= unix.CmsgSpace(int(unsafe.Sizeof(unix.Timespec{}))) {
				at = (*unix.Timespec)(unsafe.Pointer(&s.control[unix.CmsgLen(0)])).Nano()
			}
			s.mutex.Lock()
			s.came = append(s.came, note(into, at))
			s.mutex.Unlock()
		}
	}
	return size, from, nil
}

func (s *socket) WriteTo(data []byte, to net.Addr) (int, error) {
	if isRTP(data) {
		s.wentAll.Add(1)
		if measuring.Load() {
			s.mutex.Lock()
			s.went = append(s.went, note(data, time.Now().UnixNano()))
			s.mutex.Unlock()
		}
	}
	return s.UDPConn.WriteTo(data, to)
}
