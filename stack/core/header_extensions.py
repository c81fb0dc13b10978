"""The URIs of RTP header extensions (RFC 8285 §5), by which SDP names them and RTP knows them.

| element | URI | source |
|---|---|---|
| audio level | `URI_AUDIO_LEVEL` | RFC 6464 |
| mid | `URI_MID` | RFC 9143 §15.2 |
| transport-wide sequence number | `URI_TRANSPORT_CC` | draft-holmer-rmcat-transport-wide-cc-extensions-01 §2 |
| absolute send time | `URI_ABS_SEND_TIME` | WebRTC project |
| playout delay | `URI_PLAYOUT_DELAY` | WebRTC project |
"""

URI_AUDIO_LEVEL = "urn:ietf:params:rtp-hdrext:ssrc-audio-level"
URI_MID = "urn:ietf:params:rtp-hdrext:sdes:mid"
URI_TRANSPORT_CC = "http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01"
URI_ABS_SEND_TIME = "http://www.webrtc.org/experiments/rtp-hdrext/abs-send-time"
URI_PLAYOUT_DELAY = "http://www.webrtc.org/experiments/rtp-hdrext/playout-delay"
