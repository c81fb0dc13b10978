// Pion's SCTP alone, over UDP on loopback: `pion_sctp ADDRESS:PORT`. Each datagram is an SCTP packet. The lines on the
// standard streams are those of ../c_sctp/usrsctp.c.
package main

import (
	"bufio"
	"encoding/hex"
	"fmt"
	"net"
	"os"
	"sync"

	"github.com/pion/sctp"
)

const maxMessage = 1 << 20

var (
	mutex   sync.Mutex
	streams = map[uint16]*sctp.Stream{}
)

func say(words ...any) {
	mutex.Lock()
	defer mutex.Unlock()
	fmt.Println(words...)
}

func fatal(err error) {
	if err != nil {
		say("closed", err)
		os.Exit(1)
	}
}

// read hands out what arrives on a stream, until the peer resets it.
func read(stream *sctp.Stream) {
	buffer := make([]byte, maxMessage)
	for {
		size, ppid, err := stream.ReadSCTP(buffer)
		if err != nil {
			say("r", stream.StreamIdentifier())

			return
		}
		say("m", stream.StreamIdentifier(), uint32(ppid), hex.EncodeToString(buffer[:size]))
	}
}

// keep remembers a stream; false if it is known already.
func keep(stream *sctp.Stream) bool {
	mutex.Lock()
	defer mutex.Unlock()
	_, known := streams[stream.StreamIdentifier()]
	streams[stream.StreamIdentifier()] = stream

	return !known
}

func streamOf(association *sctp.Association, id uint16, ppid sctp.PayloadProtocolIdentifier) *sctp.Stream {
	mutex.Lock()
	stream := streams[id]
	mutex.Unlock()
	if stream == nil {
		opened, err := association.OpenStream(id, ppid)
		fatal(err)
		stream = opened
		if keep(stream) {
			go read(stream)
		}
	}

	return stream
}

func obey(association *sctp.Association, order string) {
	var id, unordered uint16
	var ppid uint32
	var text string
	if _, err := fmt.Sscanf(order, "m %d %d %d %s", &id, &ppid, &unordered, &text); err == nil {
		stream := streamOf(association, id, sctp.PayloadProtocolIdentifier(ppid))
		stream.SetReliabilityParams(unordered == 1, sctp.ReliabilityTypeReliable, 0)
		data, err := hex.DecodeString(text)
		fatal(err)
		_, err = stream.WriteSCTP(data, sctp.PayloadProtocolIdentifier(ppid))
		fatal(err)
	} else if _, err := fmt.Sscanf(order, "r %d", &id); err == nil {
		fatal(streamOf(association, id, 0).Close())
	}
}

func main() {
	connection, err := net.Dial("udp4", os.Args[1])
	fatal(err)
	association, err := sctp.Client(sctp.Config{NetConn: connection, MaxMessageSize: maxMessage})
	fatal(err)
	say("up")
	go func() {
		for {
			stream, err := association.AcceptStream()
			fatal(err)
			if keep(stream) {
				go read(stream)
			}
		}
	}()
	lines := bufio.NewScanner(os.Stdin)
	lines.Buffer(nil, 4<<20)
	for lines.Scan() {
		obey(association, lines.Text())
	}
}
