package main

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"sync"
	"time"

	"github.com/pion/ice/v4"
	"github.com/pion/interceptor"
	"github.com/pion/rtp"
	"github.com/pion/webrtc/v4"
)

const (
	patience = 20 * time.Second
	frame    = 20 * time.Millisecond
	ticks    = 960 // of the RTP clock in a frame
)

// spoken is what every call says, each from another place on.
var spoken [][]byte

func readPackets(name string) error {
	if name == "" {
		spoken = [][]byte{bytes.Repeat([]byte{0x33}, 80)}
		return nil
	}
	data, err := os.ReadFile(name)
	if err != nil {
		return err
	}
	for len(data) > 2 {
		size := int(binary.BigEndian.Uint16(data))
		if size == 0 || len(data) < 2+size {
			return fmt.Errorf("%s is cut short", name)
		}
		spoken, data = append(spoken, data[2:2+size]), data[2+size:]
	}
	return nil
}

// call is one of Pion's, and what its load needs to know.
type call struct {
	connection *webrtc.PeerConnection
	socket     *socket
	track      *webrtc.TrackLocalStaticRTP
	sequence   uint16
	timestamp  uint32
	next       int
	began      time.Time
	connected  chan struct{}
	mutex      sync.Mutex
	heard      [][]byte
}

func newAPI(udp *socket) (*webrtc.API, error) {
	setting := webrtc.SettingEngine{}
	setting.SetIncludeLoopbackCandidate(true)
	setting.SetNetworkTypes([]webrtc.NetworkType{webrtc.NetworkTypeUDP4})
	setting.SetICEMulticastDNSMode(ice.MulticastDNSModeDisabled)
	setting.SetICEUDPMux(webrtc.NewICEUDPMux(nil, udp))
	codecs := &webrtc.MediaEngine{}
	opus := webrtc.RTPCodecParameters{RTPCodecCapability: opusCapability(), PayloadType: 111}
	if err := codecs.RegisterCodec(opus, webrtc.RTPCodecTypeAudio); err != nil {
		return nil, err
	}
	registry := &interceptor.Registry{}
	if err := webrtc.ConfigureRTCPReports(registry); err != nil {
		return nil, err
	}
	return webrtc.NewAPI(webrtc.WithMediaEngine(codecs), webrtc.WithSettingEngine(setting), webrtc.WithInterceptorRegistry(registry)), nil
}

func opusCapability() webrtc.RTPCodecCapability {
	return webrtc.RTPCodecCapability{
		MimeType: webrtc.MimeTypeOpus, ClockRate: 48000, Channels: 2, SDPFmtpLine: "minptime=10;useinbandfec=1",
	}
}

// dial sets a call up as far as the answer; `wait` waits for the rest.
func dial() (*call, error) {
	udp, err := newSocket()
	if err != nil {
		return nil, err
	}
	api, err := newAPI(udp)
	if err != nil {
		return nil, err
	}
	connection, err := api.NewPeerConnection(webrtc.Configuration{})
	if err != nil {
		return nil, err
	}
	c := &call{connection: connection, socket: udp, connected: make(chan struct{}), began: time.Now()}
	if err := c.addSound(); err != nil {
		return nil, err
	}
	if options.events {
		if _, err := connection.CreateDataChannel("events", nil); err != nil {
			return nil, err
		}
	}
	var once sync.Once
	connection.OnConnectionStateChange(func(state webrtc.PeerConnectionState) {
		if state == webrtc.PeerConnectionStateConnected {
			once.Do(func() { close(c.connected) })
		}
	})
	return c, c.negotiate()
}

func (c *call) addSound() error {
	var err error
	if c.track, err = webrtc.NewTrackLocalStaticRTP(opusCapability(), "sound", "load"); err != nil {
		return err
	}
	sender, err := c.connection.AddTrack(c.track)
	if err != nil {
		return err
	}
	go func() { // RTCP that nothing reads would fill its buffer
		buffer := make([]byte, 1500)
		for {
			if _, _, err := sender.Read(buffer); err != nil {
				return
			}
		}
	}()
	c.connection.OnTrack(func(track *webrtc.TrackRemote, _ *webrtc.RTPReceiver) {
		for {
			arrived, _, err := track.ReadRTP()
			if err != nil {
				return
			}
			if options.returned > 0 && len(arrived.Payload) > 0 {
				c.mutex.Lock()
				c.heard = append(c.heard, bytes.Clone(arrived.Payload))
				c.mutex.Unlock()
			}
		}
	})
	return nil
}

var client = &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 64}, Timeout: patience}

func (c *call) negotiate() error {
	offer, err := c.connection.CreateOffer(nil)
	if err != nil {
		return err
	}
	gathered := webrtc.GatheringCompletePromise(c.connection)
	if err := c.connection.SetLocalDescription(offer); err != nil {
		return err
	}
	<-gathered
	body, err := json.Marshal(c.connection.LocalDescription())
	if err != nil {
		return err
	}
	response, err := client.Post(options.offer, "application/json", bytes.NewReader(body))
	if err != nil {
		return err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		return err
	}
	var answer webrtc.SessionDescription
	if err := json.Unmarshal(text, &answer); err != nil || response.StatusCode/100 != 2 {
		return fmt.Errorf("answer %d: %.300s", response.StatusCode, text)
	}
	return c.connection.SetRemoteDescription(answer)
}

func (c *call) wait() error {
	select {
	case <-c.connected:
		return nil
	case <-time.After(patience):
		return fmt.Errorf("not connected within %s", patience)
	}
}

// send says the next packet of the speech, or what was heard some packets ago.
func (c *call) send() error {
	payload := spoken[c.next%len(spoken)]
	if options.returned > 0 {
		payload = spoken[0]
		c.mutex.Lock()
		if len(c.heard) > options.returned {
			payload, c.heard = c.heard[0], c.heard[1:]
		}
		c.mutex.Unlock()
	}
	header := rtp.Header{Version: 2, PayloadType: 111, SequenceNumber: c.sequence, Timestamp: c.timestamp, SSRC: 1}
	c.sequence++
	c.timestamp += ticks
	c.next++
	return c.track.WriteRTP(&rtp.Packet{Header: header, Payload: payload})
}
