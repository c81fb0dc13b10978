// Pion as the far end of a call, told what to do by JSON lines on stdin; answers leave on stdout. The commands are
// those of ../gstreamer/peer.py, but for sound: Pion has no codec, so `offer` is given Opus packets of 20 ms, which
// are sent again and again, and `listen` returns those that arrive (base64, in the order of their arrival).
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/pion/ice/v4"
	"github.com/pion/webrtc/v4"
	"github.com/pion/webrtc/v4/pkg/media"
)

const (
	frame    = 20 * time.Millisecond
	patience = 30 * time.Second // only to turn what hangs into an error
)

// command is one line of stdin; each command takes what it needs of the arguments.
type command struct {
	ID      int    `json:"id"`
	Command string `json:"command"`
	Args    struct {
		Packets [][]byte `json:"packets"`
		Video   bool     `json:"video"`
		Data    bool     `json:"data"`
		SDP     string   `json:"sdp"`
		Seconds float64  `json:"seconds"`
		Text    *string  `json:"text"`
		Binary  []byte   `json:"binary"`
	} `json:"args"`
}

// message is one of the data channel's, in the form that `receive` returns.
type message struct {
	Text   *string `json:"text,omitempty"`
	Binary *[]byte `json:"binary,omitempty"`
}

// peer is one call. What Pion's goroutines report goes through its channels.
type peer struct {
	connection *webrtc.PeerConnection
	channel    *webrtc.DataChannel
	hasChannel bool
	connected  chan struct{}
	opened     chan struct{}
	ended      chan struct{}
	inbox      chan message
	sound      chan []byte
}

func newPeer() (*peer, error) {
	setting := webrtc.SettingEngine{}
	setting.SetICEMulticastDNSMode(ice.MulticastDNSModeDisabled)
	setting.SetNetworkTypes([]webrtc.NetworkType{webrtc.NetworkTypeUDP4})
	codecs := &webrtc.MediaEngine{}
	if err := codecs.RegisterDefaultCodecs(); err != nil {
		return nil, err
	}
	api := webrtc.NewAPI(webrtc.WithSettingEngine(setting), webrtc.WithMediaEngine(codecs))
	connection, err := api.NewPeerConnection(webrtc.Configuration{})
	if err != nil {
		return nil, err
	}
	p := &peer{
		connection: connection,
		hasChannel: true,
		connected:  make(chan struct{}),
		opened:     make(chan struct{}),
		ended:      make(chan struct{}),
		inbox:      make(chan message, 1024),
		sound:      make(chan []byte, 64),
	}
	p.watch()

	return p, nil
}

func (p *peer) watch() {
	connected := sync.OnceFunc(func() { close(p.connected) })
	ended := sync.OnceFunc(func() { close(p.ended) })
	p.connection.OnConnectionStateChange(func(state webrtc.PeerConnectionState) {
		switch state {
		case webrtc.PeerConnectionStateConnected:
			connected()
		case webrtc.PeerConnectionStateDisconnected, webrtc.PeerConnectionStateFailed, webrtc.PeerConnectionStateClosed:
			ended()
		default:
		}
	})
	p.connection.OnTrack(func(track *webrtc.TrackRemote, _ *webrtc.RTPReceiver) {
		for {
			packet, _, err := track.ReadRTP()
			if err != nil {
				return
			}
			select {
			case p.sound <- packet.Payload:
			default: // only `listen` takes them
			}
		}
	})
}

// addSound gives the connection a track that repeats packets once it stands.
func (p *peer) addSound(packets [][]byte) error {
	track, err := webrtc.NewTrackLocalStaticSample(
		webrtc.RTPCodecCapability{MimeType: webrtc.MimeTypeOpus, ClockRate: 48000, Channels: 2}, "audio", "pion")
	if err != nil {
		return err
	}
	sender, err := p.connection.AddTrack(track)
	if err != nil {
		return err
	}
	go drain(sender)
	go p.speak(track, packets)

	return nil
}

// use makes a channel the one that `send` and `receive` are about.
func (p *peer) use(channel *webrtc.DataChannel) {
	p.channel = channel
	channel.OnOpen(sync.OnceFunc(func() { close(p.opened) }))
	channel.OnMessage(func(m webrtc.DataChannelMessage) {
		if m.IsString {
			text := string(m.Data)
			p.inbox <- message{Text: &text}
		} else {
			p.inbox <- message{Binary: &m.Data}
		}
	})
}

// describe sets the local description and returns it with all candidates.
func (p *peer) describe(made webrtc.SessionDescription) (string, error) {
	gathered := webrtc.GatheringCompletePromise(p.connection)
	if err := p.connection.SetLocalDescription(made); err != nil {
		return "", err
	}
	if err := wait(gathered, "its candidates"); err != nil {
		return "", err
	}

	return p.connection.LocalDescription().SDP, nil
}

func (p *peer) offer(packets [][]byte, video, data bool) (string, error) {
	if err := p.addSound(packets); err != nil {
		return "", err
	}
	if video {
		if _, err := p.connection.AddTransceiverFromKind(webrtc.RTPCodecTypeVideo); err != nil {
			return "", err
		}
	}
	p.hasChannel = data
	if data {
		channel, err := p.connection.CreateDataChannel("trial", nil)
		if err != nil {
			return "", err
		}
		p.use(channel)
	}
	offer, err := p.connection.CreateOffer(nil)
	if err != nil {
		return "", err
	}

	return p.describe(offer)
}

// accept answers an offer; the channel is the one that the other side opens.
func (p *peer) accept(sdp string, packets [][]byte) (string, error) {
	p.hasChannel = strings.Contains(sdp, "m=application")
	p.connection.OnDataChannel(p.use)
	if err := p.addSound(packets); err != nil {
		return "", err
	}
	offer := webrtc.SessionDescription{Type: webrtc.SDPTypeOffer, SDP: sdp}
	if err := p.connection.SetRemoteDescription(offer); err != nil {
		return "", err
	}
	answer, err := p.connection.CreateAnswer(nil)
	if err != nil {
		return "", err
	}

	return p.describe(answer)
}

// speak sends the packets in their time, from the first to the last and again, from the connection to the end.
func (p *peer) speak(track *webrtc.TrackLocalStaticSample, packets [][]byte) {
	<-p.connected
	ticker := time.NewTicker(frame)
	defer ticker.Stop()
	for at := 0; ; at = (at + 1) % len(packets) {
		select {
		case <-p.ended:
			return
		case <-ticker.C:
		}
		if err := track.WriteSample(media.Sample{Data: packets[at], Duration: frame}); err != nil {
			return
		}
	}
}

// drain reads the RTCP of a sender, without which Pion does not handle it.
func drain(sender *webrtc.RTPSender) {
	buffer := make([]byte, 1500)
	for {
		if _, _, err := sender.Read(buffer); err != nil {
			return
		}
	}
}

func (p *peer) listen(seconds float64) ([][]byte, error) {
	for len(p.sound) > 0 {
		<-p.sound
	}
	heard := [][]byte{}
	late := time.After(patience)
	for len(heard) < int(seconds*float64(time.Second)/float64(frame)) {
		select {
		case packet := <-p.sound:
			heard = append(heard, packet)
		case <-late:
			return nil, fmt.Errorf("no more than %d packets of sound within %s", len(heard), patience)
		}
	}

	return heard, nil
}

func (p *peer) receive() (message, error) {
	select {
	case m := <-p.inbox:
		return m, nil
	case <-time.After(patience):
		return message{}, fmt.Errorf("no message within %s", patience)
	}
}

func wait(done <-chan struct{}, what string) error {
	select {
	case <-done:
		return nil
	case <-time.After(patience):
		return fmt.Errorf("no sign of %s within %s", what, patience)
	}
}

func (p *peer) do(c command) (any, error) {
	switch c.Command {
	case "offer":
		return p.offer(c.Args.Packets, c.Args.Video, c.Args.Data)
	case "accept":
		return p.accept(c.Args.SDP, c.Args.Packets)
	case "answer":
		answer := webrtc.SessionDescription{Type: webrtc.SDPTypeAnswer, SDP: c.Args.SDP}

		return nil, p.connection.SetRemoteDescription(answer)
	case "connected":
		if err := wait(p.connected, "the connection"); err != nil || !p.hasChannel {
			return nil, err
		}

		return nil, wait(p.opened, "the channel")
	case "listen":
		return p.listen(c.Args.Seconds)
	case "send":
		if c.Args.Text != nil {
			return nil, p.channel.SendText(*c.Args.Text)
		}

		return nil, p.channel.Send(c.Args.Binary)
	case "receive":
		return p.receive()
	case "hang_up":
		return nil, p.connection.Close()
	case "wait_ended":
		return nil, wait(p.ended, "the end")
	default:
		return nil, fmt.Errorf("%q is no command", c.Command)
	}
}

func say(answer map[string]any) {
	line, err := json.Marshal(answer)
	if err != nil {
		panic(err)
	}
	fmt.Println(string(line))
}

func main() {
	p, err := newPeer()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	say(map[string]any{"id": 0, "result": "pion"})
	lines := bufio.NewScanner(os.Stdin)
	lines.Buffer(nil, 4<<20)
	for lines.Scan() {
		var c command
		if err := json.Unmarshal(lines.Bytes(), &c); err != nil {
			fmt.Fprintln(os.Stderr, err)

			continue
		}
		if result, err := p.do(c); err != nil {
			say(map[string]any{"id": c.ID, "error": err.Error()})
		} else {
			say(map[string]any{"id": c.ID, "result": result})
		}
	}
}
