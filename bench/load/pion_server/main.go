// Pion v4 as one of the servers of `python -m bench`: an echo of RTP packets on one UDP port, ICE lite, with Pion's
// default interceptors. It speaks the protocol of bench/servers: JSON on stdout once it listens, then offers by HTTP.
// With -greeting it does what bench/servers/greeting.py does: it speaks as soon as it may, and says when it has heard.
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"net"
	"net/http"
	"os"
	"time"

	"github.com/pion/interceptor"
	"github.com/pion/webrtc/v4"
	"github.com/pion/webrtc/v4/pkg/media"
)

const frame = 20 * time.Millisecond

// silence is 20 ms of it in Opus (RFC 6716: a CELT frame without content).
var silence = []byte{0xf8, 0xff, 0xfe}

func main() {
	bare := flag.Bool("bare", false, "no interceptors: no RTCP, no NACK")
	greeting := flag.Bool("greeting", false, "speak first, and say when the caller was heard, instead of the echo")
	flag.Parse()
	answering := echo
	if *greeting {
		answering = greet
	}
	if err := serve(*bare, answering); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func serve(bare bool, answering func(*webrtc.PeerConnection) error) error {
	api, err := newAPI(bare)
	if err != nil {
		return err
	}
	listener, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		return err
	}
	http.HandleFunc("/api/offer", func(w http.ResponseWriter, request *http.Request) {
		var offer webrtc.SessionDescription
		if err := json.NewDecoder(request.Body).Decode(&offer); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		answer, err := accept(api, offer, answering)
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		w.Header().Set("content-type", "application/json")
		_ = json.NewEncoder(w).Encode(answer)
	})
	fmt.Printf("{\"offer\": \"http://%s/api/offer\"}\n", listener.Addr())
	return http.Serve(listener, nil)
}

func newAPI(bare bool) (*webrtc.API, error) {
	udp, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		return nil, err
	}
	if err := udp.SetReadBuffer(1 << 22); err != nil {
		return nil, err
	}
	setting := webrtc.SettingEngine{}
	setting.SetICEUDPMux(webrtc.NewICEUDPMux(nil, udp))
	setting.SetLite(true)
	setting.SetNetworkTypes([]webrtc.NetworkType{webrtc.NetworkTypeUDP4})
	setting.SetIncludeLoopbackCandidate(true)
	if err := setting.SetAnsweringDTLSRole(webrtc.DTLSRoleServer); err != nil {
		return nil, err
	}
	codecs := &webrtc.MediaEngine{}
	if err := codecs.RegisterDefaultCodecs(); err != nil {
		return nil, err
	}
	registry := &interceptor.Registry{}
	if !bare {
		if err := webrtc.RegisterDefaultInterceptors(codecs, registry); err != nil {
			return nil, err
		}
	}
	return webrtc.NewAPI(webrtc.WithMediaEngine(codecs), webrtc.WithSettingEngine(setting), webrtc.WithInterceptorRegistry(registry)), nil
}

func accept(api *webrtc.API, offer webrtc.SessionDescription, answering func(*webrtc.PeerConnection) error) (*webrtc.SessionDescription, error) {
	connection, err := api.NewPeerConnection(webrtc.Configuration{})
	if err != nil {
		return nil, err
	}
	connection.OnConnectionStateChange(func(state webrtc.PeerConnectionState) {
		switch state {
		case webrtc.PeerConnectionStateFailed, webrtc.PeerConnectionStateClosed, webrtc.PeerConnectionStateDisconnected:
			go connection.Close()
		}
	})
	if err := answering(connection); err != nil {
		return nil, err
	}
	if err := connection.SetRemoteDescription(offer); err != nil {
		return nil, err
	}
	answer, err := connection.CreateAnswer(nil)
	if err != nil {
		return nil, err
	}
	gathered := webrtc.GatheringCompletePromise(connection)
	if err := connection.SetLocalDescription(answer); err != nil {
		return nil, err
	}
	<-gathered
	return connection.LocalDescription(), nil
}

// echo sends each packet back; the extensions of its header belong to the other direction and go.
func echo(connection *webrtc.PeerConnection) error {
	back, err := webrtc.NewTrackLocalStaticRTP(webrtc.RTPCodecCapability{MimeType: webrtc.MimeTypeOpus}, "sound", "echo")
	if err != nil {
		return err
	}
	sender, err := connection.AddTrack(back)
	if err != nil {
		return err
	}
	go func() {
		buffer := make([]byte, 1500)
		for {
			if _, _, err := sender.Read(buffer); err != nil {
				return
			}
		}
	}()
	connection.OnTrack(func(track *webrtc.TrackRemote, _ *webrtc.RTPReceiver) {
		for {
			packet, _, err := track.ReadRTP()
			if err != nil {
				return
			}
			packet.Extension, packet.Extensions, packet.ExtensionProfile = false, nil, 0
			if err := back.WriteRTP(packet); err != nil {
				return
			}
		}
	})
	return nil
}

// greet sends silence from the connection on, and says when the first packet of the caller was accepted.
func greet(connection *webrtc.PeerConnection) error {
	track, err := webrtc.NewTrackLocalStaticSample(webrtc.RTPCodecCapability{MimeType: webrtc.MimeTypeOpus}, "sound", "greeting")
	if err != nil {
		return err
	}
	if _, err := connection.AddTrack(track); err != nil {
		return err
	}
	connection.OnConnectionStateChange(func(state webrtc.PeerConnectionState) {
		switch state {
		case webrtc.PeerConnectionStateConnected:
			go speak(connection, track)
		case webrtc.PeerConnectionStateFailed, webrtc.PeerConnectionStateClosed, webrtc.PeerConnectionStateDisconnected:
			go connection.Close()
		}
	})
	connection.OnTrack(func(_ *webrtc.TrackRemote, _ *webrtc.RTPReceiver) {
		fmt.Printf("{\"heard\": %.6f}\n", float64(time.Now().UnixMicro())/1e6)
	})
	return nil
}

// speak sends a frame at once and then one every 20 ms, until the connection is closed.
func speak(connection *webrtc.PeerConnection, track *webrtc.TrackLocalStaticSample) {
	ticker := time.NewTicker(frame)
	defer ticker.Stop()
	for connection.ConnectionState() == webrtc.PeerConnectionStateConnected {
		if err := track.WriteSample(media.Sample{Data: silence, Duration: frame}); err != nil {
			return
		}
		<-ticker.C
	}
}
