// Pion as the far end of a call, told what to do by JSON lines on stdin; answers leave on stdout. The commands are
// those of ../gstreamer/peer.py, but for sound: Pion has no codec, so `offer` is given Opus packets of 20 ms, which
// are sent again and again, and `listen` returns those that arrive (base64, in the order of their arrival).
package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
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
		Call       int      `json:"call"`
		Packets    [][]byte `json:"packets"`
		Ptime      int      `json:"ptime"`
		Video      bool     `json:"video"`
		Data       bool     `json:"data"`
		Sections   int      `json:"audio_sections"`
		Bundle     string   `json:"bundle"`
		IP         int      `json:"ip"`
		SDP        string   `json:"sdp"`
		Candidates []string `json:"candidates"`
		Seconds    float64  `json:"seconds"`
		Muted      bool     `json:"muted"`
		Label      string   `json:"label"`
		Init       struct {
			Ordered           *bool   `json:"ordered"`
			MaxRetransmits    *uint16 `json:"maxRetransmits"`
			MaxPacketLifeTime *uint16 `json:"maxPacketLifeTime"`
			Protocol          *string `json:"protocol"`
			Negotiated        *bool   `json:"negotiated"`
			ID                *uint16 `json:"id"`
		} `json:"init"`
		Text   *string `json:"text"`
		Binary []byte  `json:"binary"`
	} `json:"args"`
}

// message is one of the data channel's, in the form that `receive` returns.
type message struct {
	Text   *string `json:"text,omitempty"`
	Binary *[]byte `json:"binary,omitempty"`
}

// line is a data channel with what came of it.
type line struct {
	channel *webrtc.DataChannel
	opened  chan struct{}
	closed  chan struct{}
	inbox   chan message
}

// peer is one call. What Pion's goroutines report goes through its channels.
type peer struct {
	connection *webrtc.PeerConnection
	mutex      sync.Mutex
	lines      map[string]*line // by label, the newest of its name
	hasChannel bool
	muted      atomic.Bool
	connected  chan struct{}
	ended      chan struct{}
	sound      chan []byte
	heard      atomic.Bool // the first track is the one that `listen` is about
}

func newPeer(ip int, bundle string) (*peer, error) {
	setting := webrtc.SettingEngine{}
	setting.SetICEMulticastDNSMode(ice.MulticastDNSModeDisabled)
	network := webrtc.NetworkTypeUDP4
	if ip == 6 {
		network = webrtc.NetworkTypeUDP6
	}
	setting.SetNetworkTypes([]webrtc.NetworkType{network})
	setting.SetLite(slices.Contains(os.Args[1:], "-lite")) // it then answers checks and sends none
	codecs := &webrtc.MediaEngine{}
	if err := codecs.RegisterDefaultCodecs(); err != nil {
		return nil, err
	}
	api := webrtc.NewAPI(webrtc.WithSettingEngine(setting), webrtc.WithMediaEngine(codecs))
	policies := map[string]webrtc.BundlePolicy{
		"":           webrtc.BundlePolicyUnknown,
		"balanced":   webrtc.BundlePolicyBalanced,
		"max-compat": webrtc.BundlePolicyMaxCompat,
		"max-bundle": webrtc.BundlePolicyMaxBundle,
	}
	connection, err := api.NewPeerConnection(webrtc.Configuration{BundlePolicy: policies[bundle]})
	if err != nil {
		return nil, err
	}
	p := &peer{
		connection: connection,
		lines:      map[string]*line{},
		hasChannel: true,
		connected:  make(chan struct{}),
		ended:      make(chan struct{}),
		sound:      make(chan []byte, 64),
	}
	connection.OnDataChannel(p.use)
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
		if track.Kind() != webrtc.RTPCodecTypeAudio || p.heard.Swap(true) {
			return
		}
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
func (p *peer) addSound(packets [][]byte, frame time.Duration) error {
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
	go p.speak(track, packets, frame)

	return nil
}

// use makes a channel the one that is meant by its label.
func (p *peer) use(channel *webrtc.DataChannel) {
	used := &line{channel, make(chan struct{}), make(chan struct{}), make(chan message, 1024)}
	p.mutex.Lock()
	p.lines[channel.Label()] = used
	p.mutex.Unlock()
	channel.OnOpen(sync.OnceFunc(func() { close(used.opened) }))
	channel.OnClose(sync.OnceFunc(func() { close(used.closed) }))
	channel.OnMessage(func(m webrtc.DataChannelMessage) {
		if m.IsString {
			text := string(m.Data)
			used.inbox <- message{Text: &text}
		} else {
			used.inbox <- message{Binary: &m.Data}
		}
	})
}

// line waits for the channel of a label; empty: the one that every call has.
func (p *peer) line(label string) (*line, error) {
	if label == "" {
		label = "trial"
	}
	for late := time.Now().Add(patience); time.Now().Before(late); time.Sleep(5 * time.Millisecond) {
		p.mutex.Lock()
		found := p.lines[label]
		p.mutex.Unlock()
		if found != nil {
			return found, nil
		}
	}

	return nil, fmt.Errorf("no sign of the channel %s within %s", label, patience)
}

func (p *peer) opened(label string) (*line, error) {
	found, err := p.line(label)
	if err != nil {
		return nil, err
	}

	return found, wait(found.opened, "the channel "+label)
}

func (p *peer) open(c command) error {
	init := c.Args.Init
	channel, err := p.connection.CreateDataChannel(c.Args.Label, &webrtc.DataChannelInit{
		Ordered: init.Ordered, MaxRetransmits: init.MaxRetransmits, MaxPacketLifeTime: init.MaxPacketLifeTime,
		Protocol: init.Protocol, Negotiated: init.Negotiated, ID: init.ID,
	})
	if err != nil {
		return err
	}
	p.use(channel)
	_, err = p.opened(c.Args.Label)

	return err
}

func (p *peer) describeChannel(label string) (any, error) {
	found, err := p.opened(label)
	if err != nil {
		return nil, err
	}
	channel := found.channel

	return map[string]any{
		"id": channel.ID(), "protocol": channel.Protocol(), "ordered": channel.Ordered(),
		"maxRetransmits": channel.MaxRetransmits(), "maxPacketLifeTime": channel.MaxPacketLifeTime(),
	}, nil
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

// ptime is the length of a packet that is to be sent.
func (c command) ptime() time.Duration {
	if c.Args.Ptime == 0 {
		return frame
	}

	return time.Duration(c.Args.Ptime) * time.Millisecond
}

func (p *peer) offer(c command) (string, error) {
	if err := p.addSound(c.Args.Packets, c.ptime()); err != nil {
		return "", err
	}
	for n := 1; n < c.Args.Sections; n++ {
		if _, err := p.connection.AddTransceiverFromKind(webrtc.RTPCodecTypeAudio); err != nil {
			return "", err
		}
	}
	if c.Args.Video {
		if _, err := p.connection.AddTransceiverFromKind(webrtc.RTPCodecTypeVideo); err != nil {
			return "", err
		}
	}
	p.hasChannel = c.Args.Data
	if c.Args.Data {
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
func (p *peer) accept(c command) (string, error) {
	p.hasChannel = strings.Contains(c.Args.SDP, "m=application")
	if err := p.addSound(c.Args.Packets, c.ptime()); err != nil {
		return "", err
	}

	return p.acceptAgain(c.Args.SDP)
}

// restart makes an offer with new credentials (RFC 8829 §5.2.2).
func (p *peer) restart() (string, error) {
	offer, err := p.connection.CreateOffer(&webrtc.OfferOptions{ICERestart: true})
	if err != nil {
		return "", err
	}

	return p.describe(offer)
}

// acceptAgain answers an offer, the first or a further one.
func (p *peer) acceptAgain(sdp string) (string, error) {
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

// speak sends the packets in their time, from the first to the last and again, while the connection stands: one that
// is disconnected may come back.
func (p *peer) speak(track *webrtc.TrackLocalStaticSample, packets [][]byte, frame time.Duration) {
	<-p.connected
	ticker := time.NewTicker(frame)
	defer ticker.Stop()
	for at := 0; ; at = (at + 1) % len(packets) {
		<-ticker.C
		state := p.connection.ConnectionState()
		if state == webrtc.PeerConnectionStateFailed || state == webrtc.PeerConnectionStateClosed {
			return
		}
		if p.muted.Load() || state != webrtc.PeerConnectionStateConnected {
			continue
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
	enough := time.After(time.Duration(seconds * float64(time.Second)))
	late := time.After(time.Duration(seconds*float64(time.Second)) + 2*time.Second)
	for {
		select {
		case packet := <-p.sound:
			heard = append(heard, packet)
		case <-enough:
			if float64(len(heard)) >= 8*seconds { // half of what a sender of 60 ms packets sends
				return heard, nil
			}
		case <-late:
			if len(heard) > 0 {
				return heard, nil
			}

			return nil, errors.New("no packet of sound")
		}
	}
}

func (p *peer) receive(label string) (message, error) {
	from, err := p.line(label)
	if err != nil {
		return message{}, err
	}
	select {
	case m := <-from.inbox:
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

func (p *peer) send(c command) error {
	to, err := p.opened(c.Args.Label)
	if err != nil {
		return err
	}
	if c.Args.Text != nil {
		return to.channel.SendText(*c.Args.Text)
	}

	return to.channel.Send(c.Args.Binary)
}

func (p *peer) trickle(candidates []string) error {
	zero := uint16(0)
	for _, candidate := range candidates {
		init := webrtc.ICECandidateInit{Candidate: candidate, SDPMLineIndex: &zero}
		if err := p.connection.AddICECandidate(init); err != nil {
			return err
		}
	}

	return nil
}

func (p *peer) do(c command) (any, error) {
	switch c.Command {
	case "offer":
		return p.offer(c)
	case "accept":
		return p.accept(c)
	case "accept_again":
		return p.acceptAgain(c.Args.SDP)
	case "restart":
		return p.restart()
	case "trickle":
		return nil, p.trickle(c.Args.Candidates)
	case "mute":
		p.muted.Store(c.Args.Muted)

		return nil, nil
	case "open":
		return nil, p.open(c)
	case "channel":
		return p.describeChannel(c.Args.Label)
	case "close", "closed":
		found, err := p.line(c.Args.Label)
		if err != nil {
			return nil, err
		}
		if c.Command == "close" {
			return nil, found.channel.Close()
		}

		return nil, wait(found.closed, "the end of the channel "+c.Args.Label)
	case "answer":
		answer := webrtc.SessionDescription{Type: webrtc.SDPTypeAnswer, SDP: c.Args.SDP}

		return nil, p.connection.SetRemoteDescription(answer)
	case "connected":
		if err := wait(p.connected, "the connection"); err != nil || !p.hasChannel {
			return nil, err
		}

		_, err := p.opened("")

		return nil, err
	case "listen":
		return p.listen(c.Args.Seconds)
	case "send":
		return nil, p.send(c)
	case "receive":
		return p.receive(c.Args.Label)
	case "hang_up":
		return nil, p.connection.Close()
	case "wait_ended":
		return nil, wait(p.ended, "the end")
	default:
		return nil, fmt.Errorf("%q is no command", c.Command)
	}
}

var saying sync.Mutex // commands are carried out beside each other

func say(answer map[string]any) {
	text, err := json.Marshal(answer)
	if err != nil {
		panic(err)
	}
	saying.Lock()
	defer saying.Unlock()
	fmt.Println(string(text))
}

func obey(p *peer, c command) {
	if result, err := p.do(c); err != nil {
		say(map[string]any{"id": c.ID, "error": err.Error()})
	} else {
		say(map[string]any{"id": c.ID, "result": result})
	}
}

func main() {
	peers := map[int]*peer{} // made by the first command of each call
	say(map[string]any{"id": 0, "result": "pion"})
	lines := bufio.NewScanner(os.Stdin)
	lines.Buffer(nil, 4<<20)
	for lines.Scan() {
		var c command
		if err := json.Unmarshal(lines.Bytes(), &c); err != nil {
			fmt.Fprintln(os.Stderr, err)

			continue
		}
		p := peers[c.Args.Call]
		if p == nil {
			made, err := newPeer(c.Args.IP, c.Args.Bundle)
			if err != nil {
				say(map[string]any{"id": c.ID, "error": err.Error()})

				continue
			}
			p, peers[c.Args.Call] = made, made
		}
		go obey(p, c)
	}
}
