// webrtc-rs as either end of a call, told what to do by JSON lines on stdin; answers leave on stdout. The commands are
// those of ../../gstreamer/peer.py, but for sound: webrtc-rs has no codec, so it is given Opus packets of 20 ms, which
// it sends again and again, and `listen` returns those that arrive (base64, in the order of their arrival).

use std::collections::VecDeque;
use std::net::UdpSocket;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64::prelude::{Engine, BASE64_STANDARD};
use rtc::media_stream::MediaStreamTrack;
use rtc::peer_connection::configuration::interceptor_registry::register_default_interceptors;
use rtc::peer_connection::configuration::media_engine::{MediaEngine, MIME_TYPE_OPUS, MIME_TYPE_VP8};
use rtc::peer_connection::configuration::setting_engine::SettingEngineBuilder;
use rtc::peer_connection::configuration::RTCConfigurationBuilder;
use rtc::peer_connection::sdp::RTCSessionDescription;
use rtc::peer_connection::transport::RTCDtlsRole;
use rtc::rtp_transceiver::rtp_sender::{
    RTCRtpCodec, RTCRtpCodecParameters, RTCRtpCodingParameters, RTCRtpEncodingParameters, RtpCodecKind,
};
use serde_json::{json, Value};
use tokio::io::{AsyncBufReadExt, BufReader};
use webrtc::data_channel::{DataChannel, DataChannelEvent};
use webrtc::media_stream::track_local::static_rtp::TrackLocalStaticRTP;
use webrtc::media_stream::track_local::TrackLocal;
use webrtc::media_stream::track_remote::{TrackRemote, TrackRemoteEvent};
use webrtc::peer_connection::{
    PeerConnection, PeerConnectionBuilder, PeerConnectionEventHandler, RTCIceGatheringState, RTCPeerConnectionState,
};

const FRAME: Duration = Duration::from_millis(20);
const ROUND: Duration = Duration::from_millis(5);
const PATIENCE: Duration = Duration::from_secs(30); // only to turn what hangs into an error
const MAX_INBOX: usize = 1024;
const SSRC: u32 = 77_777;
const OPUS: u8 = 111;

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// What the stack's tasks report.
#[derive(Default)]
struct State {
    is_gathered: AtomicBool,
    is_connected: AtomicBool,
    has_ended: AtomicBool,
    is_open: AtomicBool,
    channel: Mutex<Option<Arc<dyn DataChannel>>>,
    inbox: Mutex<VecDeque<Value>>,
    heard: Mutex<Option<Vec<String>>>,
}

impl State {
    /// Make a channel the one that `send` and `receive` are about.
    fn take_channel(self: &Arc<Self>, channel: Arc<dyn DataChannel>) {
        *self.channel.lock().unwrap() = Some(channel.clone());
        let state = self.clone();
        tokio::spawn(async move {
            while let Some(event) = channel.poll().await {
                match event {
                    DataChannelEvent::OnOpen => state.is_open.store(true, Ordering::Relaxed),
                    DataChannelEvent::OnClose => state.has_ended.store(true, Ordering::Relaxed),
                    DataChannelEvent::OnMessage(message) => {
                        let mut inbox = state.inbox.lock().unwrap();
                        if inbox.len() < MAX_INBOX {
                            inbox.push_back(if message.is_string {
                                json!({"text": String::from_utf8_lossy(&message.data)})
                            } else {
                                json!({"binary": BASE64_STANDARD.encode(&message.data)})
                            });
                        }
                    }
                    _ => {}
                }
            }
        });
    }
}

#[derive(Clone)]
struct Handler(Arc<State>);

#[async_trait::async_trait]
impl PeerConnectionEventHandler for Handler {
    async fn on_ice_gathering_state_change(&self, state: RTCIceGatheringState) {
        self.0.is_gathered.store(state == RTCIceGatheringState::Complete, Ordering::Relaxed);
    }

    async fn on_connection_state_change(&self, state: RTCPeerConnectionState) {
        match state {
            RTCPeerConnectionState::Connected => self.0.is_connected.store(true, Ordering::Relaxed),
            RTCPeerConnectionState::Disconnected | RTCPeerConnectionState::Failed | RTCPeerConnectionState::Closed => {
                self.0.has_ended.store(true, Ordering::Relaxed)
            }
            _ => {}
        }
    }

    async fn on_data_channel(&self, channel: Arc<dyn DataChannel>) {
        self.0.take_channel(channel);
        self.0.is_open.store(true, Ordering::Relaxed); // announced when it is open
    }

    async fn on_track(&self, track: Arc<dyn TrackRemote>) {
        let state = self.0.clone();
        tokio::spawn(async move {
            while let Some(event) = track.poll().await {
                if let TrackRemoteEvent::OnRtpPacket(packet) = event {
                    if let Some(heard) = &mut *state.heard.lock().unwrap() {
                        heard.push(BASE64_STANDARD.encode(&packet.payload));
                    }
                }
            }
        });
    }
}

struct Peer {
    state: Arc<State>,
    connection: Arc<dyn PeerConnection>,
    track: Arc<dyn TrackLocal>,
    packets: Vec<Vec<u8>>,
    wants_channel: AtomicBool,
}

/// The address from which this machine would reach others; loopback where there is no route.
fn machine_address() -> String {
    let probe = UdpSocket::bind("0.0.0.0:0").and_then(|s| s.connect("192.0.2.1:9").and(s.local_addr()));
    probe.map_or_else(|_| "127.0.0.1".to_string(), |address| address.ip().to_string())
}

fn say(answer: Value) {
    println!("{answer}");
}

fn text(args: &Value, name: &str) -> String {
    args[name].as_str().unwrap_or_default().to_string()
}

/// The payload type of Opus in a description; ours, if it names none.
fn opus_of(sdp: &str) -> u8 {
    let is_opus = |line: &&str| line.starts_with("a=rtpmap:") && line.to_lowercase().contains(" opus/");
    let number = sdp.lines().find(is_opus).and_then(|line| line[9..].split(' ').next()?.parse().ok());
    number.unwrap_or(OPUS)
}

async fn until<T>(what: &str, mut test: impl FnMut() -> Option<T>) -> Result<T, Failure> {
    let end = tokio::time::Instant::now() + PATIENCE;
    loop {
        if let Some(found) = test() {
            return Ok(found);
        }
        if tokio::time::Instant::now() > end {
            return Err(format!("no sign of {what} within {PATIENCE:?}").into());
        }
        tokio::time::sleep(ROUND).await;
    }
}

fn codec(mime_type: &str, clock_rate: u32, channels: u16, payload_type: u8) -> RTCRtpCodecParameters {
    let rtp_codec = RTCRtpCodec {
        mime_type: mime_type.to_owned(),
        clock_rate,
        channels,
        sdp_fmtp_line: if channels == 2 { "minptime=10;useinbandfec=1".into() } else { String::new() },
        rtcp_feedback: vec![],
    };
    RTCRtpCodecParameters { rtp_codec, payload_type, ..Default::default() }
}

impl Peer {
    async fn new(args: &Value) -> Result<Peer, Failure> {
        let mut media = MediaEngine::default();
        let opus = codec(MIME_TYPE_OPUS, 48_000, 2, OPUS);
        media.register_codec(opus.clone(), RtpCodecKind::Audio)?;
        media.register_codec(codec(MIME_TYPE_VP8, 90_000, 0, 96), RtpCodecKind::Video)?;
        let registry = register_default_interceptors(rtc::interceptor::Registry::new(), &mut media)?;
        let mut settings = SettingEngineBuilder::new();
        settings = match args["setup"].as_str() {
            Some("active") => settings.with_answering_dtls_role(RTCDtlsRole::Client),
            Some("passive") => settings.with_answering_dtls_role(RTCDtlsRole::Server),
            _ => settings,
        };
        let state = Arc::new(State::default());
        let connection = PeerConnectionBuilder::new()
            .with_configuration(RTCConfigurationBuilder::new().build())
            .with_media_engine(media)
            .with_setting_engine(settings.build())
            .with_interceptor_registry(registry)
            .with_handler(Arc::new(Handler(state.clone())))
            .with_udp_addrs(vec![format!("{}:0", machine_address())])
            .build()
            .await?;
        let rtp_coding_parameters = RTCRtpCodingParameters { ssrc: Some(SSRC), ..Default::default() };
        let encoding =
            RTCRtpEncodingParameters { rtp_coding_parameters, codec: opus.rtp_codec, ..Default::default() };
        let source =
            MediaStreamTrack::new("peer".into(), "audio".into(), "audio".into(), RtpCodecKind::Audio, vec![encoding]);
        let track: Arc<dyn TrackLocal> = Arc::new(TrackLocalStaticRTP::new(source));
        let given = args["packets"].as_array().cloned().unwrap_or_default();
        let packets = given.iter().map(|packet| BASE64_STANDARD.decode(packet.as_str().unwrap_or_default()));
        let packets = packets.collect::<Result<_, _>>()?;
        Ok(Peer { state, connection: Arc::new(connection), track, packets, wants_channel: AtomicBool::new(true) })
    }

    async fn described(&self, made: RTCSessionDescription) -> Result<Value, Failure> {
        self.connection.set_local_description(made).await?;
        until("its candidates", || self.state.is_gathered.load(Ordering::Relaxed).then_some(())).await?;
        let description = self.connection.local_description().await.ok_or("there is no description")?;
        Ok(description.sdp.into())
    }

    async fn offer(&self, args: &Value) -> Result<Value, Failure> {
        self.connection.add_track(self.track.clone()).await?;
        if args["video"].as_bool() == Some(true) {
            self.connection.add_transceiver_from_kind(RtpCodecKind::Video, None).await?;
        }
        let wants_channel = args["data"].as_bool() != Some(false);
        self.wants_channel.store(wants_channel, Ordering::Relaxed);
        if wants_channel {
            self.state.take_channel(self.connection.create_data_channel("trial", None).await?);
        }
        let offer = self.connection.create_offer(None).await?;
        self.described(offer).await
    }

    async fn accept(self: &Arc<Self>, args: &Value) -> Result<Value, Failure> {
        let offer = text(args, "sdp");
        self.wants_channel.store(offer.contains("m=application"), Ordering::Relaxed);
        self.connection.add_track(self.track.clone()).await?;
        self.connection.set_remote_description(RTCSessionDescription::offer(offer.clone())?).await?;
        let answer = self.connection.create_answer(None).await?;
        let answer = self.described(answer).await?;
        self.begin_to_speak(&offer);
        Ok(answer)
    }

    async fn answer(self: &Arc<Self>, args: &Value) -> Result<Value, Failure> {
        let answer = text(args, "sdp");
        self.connection.set_remote_description(RTCSessionDescription::answer(answer.clone())?).await?;
        self.begin_to_speak(&answer);
        Ok(Value::Null)
    }

    /// Send the packets in their time, from the first to the last and again, from the connection to the end.
    fn begin_to_speak(self: &Arc<Self>, agreed: &str) {
        let (peer, payload_type) = (self.clone(), opus_of(agreed));
        tokio::spawn(async move {
            let connected = || peer.state.is_connected.load(Ordering::Relaxed).then_some(());
            if until("the connection", connected).await.is_err() {
                return;
            }
            let mut tick = tokio::time::interval(FRAME);
            for number in 0_u32.. {
                tick.tick().await;
                let mut packet = rtc::rtp::Packet::default();
                packet.header.version = 2;
                packet.header.payload_type = payload_type;
                packet.header.ssrc = SSRC;
                packet.header.sequence_number = number as u16;
                packet.header.timestamp = number.wrapping_mul(960);
                packet.payload = peer.packets[number as usize % peer.packets.len()].clone().into();
                if peer.state.has_ended.load(Ordering::Relaxed) || peer.track.write_rtp(packet).await.is_err() {
                    return;
                }
            }
        });
    }

    async fn send(&self, args: &Value) -> Result<Value, Failure> {
        let channel = self.state.channel.lock().unwrap().clone().ok_or("there is no channel")?;
        match args["text"].as_str() {
            Some(text) => channel.send_text(text).await?,
            None => channel.send(BASE64_STANDARD.decode(text(args, "binary"))?.as_slice().into()).await?,
        }
        Ok(Value::Null)
    }

    async fn listen(&self, args: &Value) -> Result<Value, Failure> {
        let count = (args["seconds"].as_f64().unwrap_or(1.0) * 50.0) as usize;
        *self.state.heard.lock().unwrap() = Some(vec![]);
        let heard = until("sound", || {
            let mut heard = self.state.heard.lock().unwrap();
            if heard.as_ref().is_some_and(|packets| packets.len() >= count) { heard.take() } else { None }
        });
        Ok(json!(heard.await?))
    }

    async fn carry_out(self: Arc<Self>, command: &str, args: &Value) -> Result<Value, Failure> {
        let state = &self.state;
        match command {
            "offer" => self.offer(args).await,
            "accept" => self.accept(args).await,
            "answer" => self.answer(args).await,
            "send" => self.send(args).await,
            "listen" => self.listen(args).await,
            "receive" => until("a message", || state.inbox.lock().unwrap().pop_front()).await,
            "connected" => {
                until("the connection", || {
                    let is_open = !self.wants_channel.load(Ordering::Relaxed) || state.is_open.load(Ordering::Relaxed);
                    (state.is_connected.load(Ordering::Relaxed) && is_open).then_some(Value::Null)
                })
                .await
            }
            "hang_up" => {
                self.connection.close().await?;
                Ok(Value::Null)
            }
            "wait_ended" => {
                until("the end", || state.has_ended.load(Ordering::Relaxed).then_some(Value::Null)).await
            }
            _ => Err(format!("{command:?} is no command").into()),
        }
    }
}

#[tokio::main]
async fn main() -> Result<(), Failure> {
    say(json!({"id": 0, "result": "webrtc-rs"}));
    let mut lines = BufReader::new(tokio::io::stdin()).lines();
    let mut peer = None;
    while let Some(line) = lines.next_line().await? {
        let Ok(order) = serde_json::from_str::<Value>(&line) else { continue };
        if peer.is_none() {
            peer = Some(Arc::new(Peer::new(&order["args"]).await?)); // the first says how the connection shall be made
        }
        let Some(peer) = peer.clone() else { continue };
        tokio::spawn(async move {
            match peer.carry_out(order["command"].as_str().unwrap_or_default(), &order["args"]).await {
                Ok(result) => say(json!({"id": order["id"], "result": result})),
                Err(error) => say(json!({"id": order["id"], "error": error.to_string()})),
            }
        });
    }
    Ok(())
}
