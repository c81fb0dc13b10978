// Pion's SCTP alone, over UDP on loopback: `pion_sctp ADDRESS:PORT`. Each datagram is an SCTP packet.
//
// Messages travel as JSON lines on the standard streams, `{"stream", "ppid", "data", "unordered"}` with data in base64;
// `{"reset"}` resets a stream; `{"up": true}` says that the association stands, `{"closed"}` that it is over.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"sync"

	"github.com/pion/sctp"
)

const maxMessage = 1 << 20

type line struct {
	Stream    uint16  `json:"stream"`
	PPID      uint32  `json:"ppid"`
	Data      []byte  `json:"data"`
	Unordered bool    `json:"unordered"`
	Reset     *uint16 `json:"reset,omitempty"`
}

var (
	mutex   sync.Mutex
	streams = map[uint16]*sctp.Stream{}
)

func say(answer any) {
	text, err := json.Marshal(answer)
	if err != nil {
		panic(err)
	}
	mutex.Lock()
	defer mutex.Unlock()
	fmt.Println(string(text))
}

func fatal(err error) {
	if err != nil {
		say(map[string]any{"closed": err.Error()})
		os.Exit(1)
	}
}

// read hands out what arrives on a stream, until the peer resets it.
func read(stream *sctp.Stream) {
	buffer := make([]byte, maxMessage)
	for {
		size, ppid, err := stream.ReadSCTP(buffer)
		if err != nil {
			say(map[string]any{"reset": stream.StreamIdentifier()})

			return
		}
		say(line{Stream: stream.StreamIdentifier(), PPID: uint32(ppid), Data: buffer[:size]})
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

func obey(association *sctp.Association, order line) {
	id := order.Stream
	if order.Reset != nil {
		id = *order.Reset
	}
	mutex.Lock()
	stream := streams[id]
	mutex.Unlock()
	if order.Reset != nil {
		if stream != nil {
			fatal(stream.Close())
		}

		return
	}
	if stream == nil {
		opened, err := association.OpenStream(id, sctp.PayloadProtocolIdentifier(order.PPID))
		fatal(err)
		stream = opened
		if keep(stream) {
			go read(stream)
		}
	}
	stream.SetReliabilityParams(order.Unordered, sctp.ReliabilityTypeReliable, 0)
	_, err := stream.WriteSCTP(order.Data, sctp.PayloadProtocolIdentifier(order.PPID))
	fatal(err)
}

func main() {
	connection, err := net.Dial("udp4", os.Args[1])
	fatal(err)
	association, err := sctp.Client(sctp.Config{NetConn: connection, MaxMessageSize: maxMessage})
	fatal(err)
	say(map[string]any{"up": true})
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
		var order line
		fatal(json.Unmarshal(lines.Bytes(), &order))
		obey(association, order)
	}
}
