// str0m as either end of a call, told what to do by JSON lines on stdin; answers leave on stdout. The commands are those
// of ../../gstreamer/peer.py, but for sound: str0m has no codec, so it is given Opus packets of 20 ms, which it sends
// again and again, and `listen` returns those that arrive (base64, in the order of their arrival).
//
// str0m does no I/O of its own: one thread reads stdin, this one owns the socket and the clock. A command that has to
// wait becomes a `Wait`, which is looked at in every round.

use std::collections::VecDeque;
use std::io::BufRead;
use std::net::UdpSocket;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use base64::prelude::{Engine, BASE64_STANDARD};
use serde_json::{json, Value};
use str0m::change::{SdpAnswer, SdpOffer, SdpPendingOffer};
use str0m::channel::ChannelId;
use str0m::config::DtlsVersion;
use str0m::format::Codec;
use str0m::media::{Direction, Frequency, MediaKind, MediaTime, Mid};
use str0m::net::{Protocol, Receive};
use str0m::{Candidate, Event, IceConnectionState, Input, Output, Rtc, RtcConfig};

const FRAME: Duration = Duration::from_millis(20);
const ROUND: Duration = Duration::from_millis(4);
const PATIENCE: Duration = Duration::from_secs(30); // only to turn what hangs into an error
const SILENCE: Duration = Duration::from_secs(3); // how much later than due the sound may be that `listen` waits for
const MAX_INBOX: usize = 1024;
const SEND_BUFFER: usize = 1 << 20; // bytes: the messages of a trial are sent before any is read

type Failure = Box<dyn std::error::Error>;

enum Kind {
    Connected,
    Receive,
    Ended,
    Listen(usize),
}

struct Wait {
    id: Value,
    kind: Kind,
    until: Instant,
}

struct Peer {
    rtc: Rtc,
    socket: UdpSocket,
    pending: Option<SdpPendingOffer>,
    audio: Option<Mid>,
    packets: Vec<Vec<u8>>,
    connected_at: Option<Instant>,
    sent: usize,
    wants_channel: bool,
    channel: Option<ChannelId>,
    is_open: bool,
    has_ended: bool,
    is_gone: bool,
    inbox: VecDeque<Value>,
    heard: Option<Vec<String>>,
    waits: Vec<Wait>,
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

impl Peer {
    fn new(args: &Value) -> Result<Peer, Failure> {
        let version = match args["dtls"].as_str() {
            Some("1.2") => DtlsVersion::Dtls12,
            Some("1.3") => DtlsVersion::Dtls13,
            _ => DtlsVersion::Auto,
        };
        let mut rtc = RtcConfig::new()
            .set_dtls_version(version)
            .set_sctp_max_buffered_amount(SEND_BUFFER)
            .build(Instant::now());
        let socket = UdpSocket::bind(format!("{}:0", machine_address()))?;
        rtc.add_local_candidate(Candidate::host(socket.local_addr()?, "udp")?);
        let given = args["packets"].as_array().cloned().unwrap_or_default();
        let packets = given.iter().map(|packet| BASE64_STANDARD.decode(packet.as_str().unwrap_or_default()));
        Ok(Peer {
            rtc,
            socket,
            pending: None,
            audio: None,
            packets: packets.collect::<Result<_, _>>()?,
            connected_at: None,
            sent: 0,
            wants_channel: true,
            channel: None,
            is_open: false,
            has_ended: false,
            is_gone: false,
            inbox: VecDeque::new(),
            heard: None,
            waits: vec![],
        })
    }

    fn offer(&mut self, args: &Value) -> Result<Value, Failure> {
        let mut change = self.rtc.sdp_api();
        self.audio = Some(change.add_media(MediaKind::Audio, Direction::SendRecv, None, None, None));
        if args["video"].as_bool() == Some(true) {
            change.add_media(MediaKind::Video, Direction::SendRecv, None, None, None);
        }
        self.wants_channel = args["data"].as_bool() != Some(false);
        if self.wants_channel {
            change.add_channel("trial".to_string());
        }
        let (offer, pending) = change.apply().ok_or("it has nothing to offer")?;
        self.pending = Some(pending);
        Ok(offer.to_sdp_string().into())
    }

    fn accept(&mut self, args: &Value) -> Result<Value, Failure> {
        let offer = text(args, "sdp");
        self.wants_channel = offer.contains("m=application");
        let answer = self.rtc.sdp_api().accept_offer(SdpOffer::from_sdp_string(&offer)?)?;
        Ok(answer.to_sdp_string().into())
    }

    fn answer(&mut self, args: &Value) -> Result<Value, Failure> {
        let answer = SdpAnswer::from_sdp_string(&text(args, "sdp"))?;
        let pending = self.pending.take().ok_or("there is no offer")?;
        self.rtc.sdp_api().accept_answer(pending, answer)?;
        Ok(Value::Null)
    }

    fn send(&mut self, args: &Value) -> Result<Value, Failure> {
        let mut channel = self.channel.and_then(|id| self.rtc.channel(id)).ok_or("there is no channel")?;
        let taken = match args["text"].as_str() {
            Some(text) => channel.write(false, text.as_bytes())?,
            None => channel.write(true, &BASE64_STANDARD.decode(text(args, "binary"))?)?,
        };
        taken.then_some(Value::Null).ok_or_else(|| "its buffer is full".into())
    }

    /// What arrived, and what str0m has to say and to send; returns when it wants to be woken.
    fn pump(&mut self) -> Result<Instant, Failure> {
        loop {
            match self.rtc.poll_output()? {
                Output::Timeout(at) => return Ok(at),
                Output::Transmit(datagram) => {
                    let _ = self.socket.send_to(&datagram.contents, datagram.destination);
                }
                Output::Event(event) => self.note(event),
            }
        }
    }

    fn note(&mut self, event: Event) {
        match event {
            Event::Connected => self.connected_at = Some(Instant::now()),
            Event::MediaAdded(media) if media.kind == MediaKind::Audio => self.audio = Some(media.mid),
            Event::ChannelOpen(id, _) => {
                self.channel = Some(id);
                self.is_open = true;
            }
            Event::ChannelClose(_) => self.has_ended = true,
            // It goes on checking; this is all that it says of a side that has gone without a word.
            Event::IceConnectionStateChange(state) => self.is_gone = state == IceConnectionState::Disconnected,
            Event::ChannelData(message) if self.inbox.len() < MAX_INBOX => self.inbox.push_back(if message.binary {
                json!({"binary": BASE64_STANDARD.encode(message.data)})
            } else {
                json!({"text": String::from_utf8_lossy(&message.data)})
            }),
            Event::MediaData(media) => {
                if let Some(heard) = &mut self.heard {
                    heard.push(BASE64_STANDARD.encode(&media.data));
                }
            }
            _ => {}
        }
    }

    /// Send the next packet if it is time; the packets follow each other from the first to the last and again.
    fn speak(&mut self) -> Result<bool, Failure> {
        let (Some(began), Some(mid)) = (self.connected_at, self.audio) else { return Ok(false) };
        if self.packets.is_empty() || began.elapsed() < FRAME * self.sent as u32 {
            return Ok(false);
        }
        let Some(writer) = self.rtc.writer(mid) else { return Ok(false) };
        let Some(pt) = writer.payload_params().find(|p| p.spec().codec == Codec::Opus).map(|p| p.pt()) else {
            return Ok(false);
        };
        let time = MediaTime::new(self.sent as u64 * 960, Frequency::FORTY_EIGHT_KHZ);
        writer.write(pt, Instant::now(), time, self.packets[self.sent % self.packets.len()].clone())?;
        self.sent += 1;
        Ok(true)
    }

    /// Wait for the next datagram, for a round at most, and hand it on; or the time, if none came.
    fn read(&mut self, wake: Instant) -> Result<(), Failure> {
        let mut buffer = [0; 2000];
        let wait = wake.saturating_duration_since(Instant::now()).clamp(Duration::from_millis(1), ROUND);
        self.socket.set_read_timeout(Some(wait))?;
        let input = match self.socket.recv_from(&mut buffer) {
            Ok((size, source)) => {
                let destination = self.socket.local_addr()?;
                let Ok(contents) = buffer[..size].try_into() else { return Ok(()) }; // no protocol that it knows
                Input::Receive(Instant::now(), Receive { proto: Protocol::Udp, source, destination, contents })
            }
            Err(_) => Input::Timeout(Instant::now()),
        };
        self.rtc.handle_input(input)?;
        Ok(())
    }

    fn round(&mut self) -> Result<(), Failure> {
        let wake = self.pump()?;
        if !self.speak()? {
            self.read(wake)?;
        }
        Ok(())
    }

    fn outcome(&mut self, kind: &Kind) -> Option<Value> {
        match kind {
            Kind::Connected => {
                (self.connected_at.is_some() && (self.is_open || !self.wants_channel)).then_some(Value::Null)
            }
            Kind::Receive => self.inbox.pop_front(),
            Kind::Ended => (self.has_ended || self.is_gone).then_some(Value::Null),
            Kind::Listen(count) => {
                let is_enough = self.heard.as_ref().is_some_and(|heard| heard.len() >= *count);
                is_enough.then(|| json!(self.heard.take()))
            }
        }
    }

    fn answer_waits(&mut self) {
        for wait in std::mem::take(&mut self.waits) {
            if let Some(result) = self.outcome(&wait.kind) {
                say(json!({"id": wait.id, "result": result}));
            } else if Instant::now() > wait.until {
                say(json!({"id": wait.id, "error": "no sign of it in time"}));
            } else {
                self.waits.push(wait);
            }
        }
    }

    /// Carry out a command; None if the answer comes later.
    fn carry_out(&mut self, id: &Value, command: &str, args: &Value) -> Result<Option<Value>, Failure> {
        let mut patience = PATIENCE;
        let kind = match command {
            "offer" => return self.offer(args).map(Some),
            "accept" => return self.accept(args).map(Some),
            "answer" => return self.answer(args).map(Some),
            "send" => return self.send(args).map(Some),
            "hang_up" => {
                if self.rtc.close().is_err() {
                    self.rtc.disconnect(); // it takes no goodbye before its association stands
                }
                self.packets.clear();
                return Ok(Some(Value::Null));
            }
            "connected" => Kind::Connected,
            "receive" => Kind::Receive,
            "wait_ended" => Kind::Ended,
            "listen" => {
                self.heard = Some(vec![]);
                let seconds = args["seconds"].as_f64().unwrap_or(1.0);
                patience = Duration::from_secs_f64(seconds) + SILENCE;
                Kind::Listen((seconds * 50.0) as usize)
            }
            _ => return Err(format!("{command:?} is no command").into()),
        };
        self.waits.push(Wait { id: id.clone(), kind, until: Instant::now() + patience });
        Ok(None)
    }
}

fn main() -> Result<(), Failure> {
    str0m::crypto::from_feature_flags().install_process_default();
    let (sender, commands) = mpsc::channel();
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines().map_while(Result::ok) {
            if let Ok(command) = serde_json::from_str::<Value>(&line) {
                if sender.send(command).is_err() {
                    return;
                }
            }
        }
    });
    say(json!({"id": 0, "result": "str0m"}));
    let first = commands.recv()?; // an offer or an offer to accept: both say how the connection shall be made
    let mut peer = Peer::new(&first["args"])?;
    let mut next = Some(first);
    loop {
        if let Some(command) = next {
            let (id, args) = (&command["id"], &command["args"]);
            match peer.carry_out(id, command["command"].as_str().unwrap_or_default(), args) {
                Ok(Some(result)) => say(json!({"id": id, "result": result})),
                Ok(None) => {}
                Err(error) => say(json!({"id": id, "error": error.to_string()})),
            }
        }
        if let Err(error) = peer.round() {
            eprintln!("{error}");
        }
        peer.has_ended |= !peer.rtc.is_alive(); // so it shows that the other side said close_notify
        peer.answer_waits();
        next = match commands.try_recv() {
            Ok(command) => Some(command),
            Err(mpsc::TryRecvError::Empty) => None,
            Err(mpsc::TryRecvError::Disconnected) => return Ok(()),
        };
    }
}
