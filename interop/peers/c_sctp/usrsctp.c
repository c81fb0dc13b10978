/* usrsctp alone, over UDP on loopback: `usrsctp ADDRESS:PORT`. Each datagram is an SCTP packet.
 *
 * Messages travel on the standard streams as lines of words: `m STREAM PPID UNORDERED HEX` sends one, `r STREAM` resets
 * a stream; `up` says that the association stands, `m STREAM PPID HEX` and `r STREAM` what came, `closed` that it is over.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include <usrsctp.h>

#define SCTP_PORT 5000
#define MAX_MESSAGE (1 << 20)
#define STREAMS 1024
/* Without the header of SCTP, which usrsctp adds: so a packet has 1172 bytes, and DTLS, UDP and IPv6 fit around it in 1280
 * (RFC 8831 section 5). */
#define PATH_MTU 1160

static int udp;
static pthread_mutex_t output = PTHREAD_MUTEX_INITIALIZER;

static void fail(const char *what) {
    printf("closed %s: %s\n", what, strerror(errno));
    exit(1);
}

static int send_packet(void *address, void *packet, size_t size, uint8_t tos, uint8_t set_df) {
    (void)address, (void)tos, (void)set_df;
    return send(udp, packet, size, 0) < 0 ? errno : 0;
}

static void say_message(uint16_t stream, uint32_t ppid, const unsigned char *data, size_t size) {
    pthread_mutex_lock(&output);
    printf("m %u %u ", stream, ppid);
    for (size_t at = 0; at < size; at++) printf("%02x", data[at]);
    printf("\n");
    pthread_mutex_unlock(&output);
}

static void note(const union sctp_notification *event) {
    pthread_mutex_lock(&output);
    if (event->sn_header.sn_type == SCTP_ASSOC_CHANGE) {
        uint16_t state = event->sn_assoc_change.sac_state;
        if (state == SCTP_COMM_UP) printf("up\n");
        if (state == SCTP_COMM_LOST || state == SCTP_SHUTDOWN_COMP || state == SCTP_CANT_STR_ASSOC) printf("closed\n");
    }
    if (event->sn_header.sn_type == SCTP_STREAM_RESET_EVENT) {
        const struct sctp_stream_reset_event *reset = &event->sn_strreset_event;
        size_t count = (reset->strreset_length - sizeof *reset) / sizeof(uint16_t);
        if (reset->strreset_flags & SCTP_STREAM_RESET_INCOMING_SSN)
            for (size_t at = 0; at < count; at++) printf("r %u\n", reset->strreset_stream_list[at]);
    }
    pthread_mutex_unlock(&output);
}

/* usrsctp hands out long messages in pieces: they are put together until one ends. One thread calls this. */
static int receive(struct socket *from, union sctp_sockstore address, void *data, size_t size, struct sctp_rcvinfo info,
                   int flags, void *context) {
    static unsigned char whole[MAX_MESSAGE];
    static size_t used;
    (void)from, (void)address, (void)context;

    if (data == NULL) return 1;
    if (flags & MSG_NOTIFICATION) {
        note(data);
    } else if (used + size <= sizeof whole) {
        memcpy(whole + used, data, size);
        used += size;
        if (flags & MSG_EOR) {
            say_message(info.rcv_sid, ntohl(info.rcv_ppid), whole, used);
            used = 0;
        }
    }
    free(data);
    return 1;
}

static void *read_packets(void *context) {
    unsigned char packet[65536];
    for (;;) {
        ssize_t size = recv(udp, packet, sizeof packet, 0);
        if (size > 0) usrsctp_conninput(context, packet, (size_t)size, 0);
    }
    return NULL;
}

static void set(struct socket *sctp, int option, const void *value, socklen_t size) {
    if (usrsctp_setsockopt(sctp, IPPROTO_SCTP, option, value, size) < 0) fail("option");
}

static struct socket *make(void) {
    struct socket *sctp = usrsctp_socket(AF_CONN, SOCK_STREAM, IPPROTO_SCTP, receive, NULL, 0, NULL);
    uint16_t events[] = {SCTP_ASSOC_CHANGE, SCTP_STREAM_RESET_EVENT};
    struct sctp_initmsg streams = {STREAMS, STREAMS, 0, 0};
    struct sctp_assoc_value reset = {SCTP_ALL_ASSOC, SCTP_ENABLE_RESET_STREAM_REQ};
    int on = 1;

    if (sctp == NULL) fail("socket");
    for (size_t at = 0; at < sizeof events / sizeof *events; at++) {
        struct sctp_event event = {SCTP_ALL_ASSOC, events[at], 1};
        set(sctp, SCTP_EVENT, &event, sizeof event);
    }
    set(sctp, SCTP_NODELAY, &on, sizeof on);
    set(sctp, SCTP_INITMSG, &streams, sizeof streams);
    set(sctp, SCTP_ENABLE_STREAM_RESET, &reset, sizeof reset);
    usrsctp_set_non_blocking(sctp, 1);
    return sctp;
}

static int digit(char letter) {
    if (letter >= '0' && letter <= '9') return letter - '0';
    return letter >= 'a' && letter <= 'f' ? letter - 'a' + 10 : -1;
}

static void send_message(struct socket *sctp, unsigned stream, unsigned ppid, unsigned unordered, const char *hex) {
    static unsigned char data[MAX_MESSAGE];
    struct sctp_sendv_spa how = {.sendv_flags = SCTP_SEND_SNDINFO_VALID};
    size_t size = 0;

    for (; size < sizeof data && digit(hex[2 * size]) >= 0 && digit(hex[2 * size + 1]) >= 0; size++)
        data[size] = (unsigned char)(16 * digit(hex[2 * size]) + digit(hex[2 * size + 1]));
    how.sendv_sndinfo.snd_sid = (uint16_t)stream;
    how.sendv_sndinfo.snd_ppid = htonl(ppid);
    how.sendv_sndinfo.snd_flags = (uint16_t)(SCTP_EOR | (unordered ? SCTP_UNORDERED : 0));
    while (usrsctp_sendv(sctp, data, size, NULL, 0, &how, sizeof how, SCTP_SENDV_SPA, 0) < 0) {
        if (errno != EWOULDBLOCK) fail("send");
        usleep(1000); /* its buffer is full */
    }
}

static void reset_stream(struct socket *sctp, unsigned stream) {
    struct sctp_reset_streams *order = calloc(1, sizeof *order + sizeof(uint16_t));
    order->srs_flags = SCTP_STREAM_RESET_OUTGOING;
    order->srs_number_streams = 1;
    order->srs_stream_list[0] = (uint16_t)stream;
    usrsctp_setsockopt(sctp, IPPROTO_SCTP, SCTP_RESET_STREAMS, order, (socklen_t)(sizeof *order + sizeof(uint16_t)));
    free(order);
}

int main(int count, char **values) {
    struct sockaddr_in peer = {.sin_family = AF_INET};
    struct sctp_paddrparams path = {.spp_flags = SPP_PMTUD_DISABLE, .spp_pathmtu = PATH_MTU};
    struct sockaddr_conn here = {.sconn_family = AF_CONN, .sconn_port = htons(SCTP_PORT), .sconn_addr = &udp};
    struct socket *sctp;
    pthread_t reader;
    char host[64], *line = NULL;
    size_t room = 0;
    int port;

    setvbuf(stdout, NULL, _IOLBF, 0);
    if (count != 2 || sscanf(values[1], "%63[^:]:%d", host, &port) != 2) fail("usage");
    peer.sin_port = htons((uint16_t)port);
    if (inet_pton(AF_INET, host, &peer.sin_addr) != 1) fail("address");
    udp = socket(AF_INET, SOCK_DGRAM, 0);
    if (connect(udp, (struct sockaddr *)&peer, sizeof peer) < 0) fail("connect");
    usrsctp_init(0, send_packet, NULL);
    usrsctp_sysctl_set_sctp_ecn_enable(0);
    usrsctp_register_address(&udp);
    sctp = make();
    if (usrsctp_bind(sctp, (struct sockaddr *)&here, sizeof here) < 0) fail("bind");
    pthread_create(&reader, NULL, read_packets, &udp);
    if (usrsctp_connect(sctp, (struct sockaddr *)&here, sizeof here) < 0 && errno != EINPROGRESS) fail("connect");
    memcpy(&path.spp_address, &here, sizeof here); /* of a path alone: for a socket it is taken and forgotten */
    set(sctp, SCTP_PEER_ADDR_PARAMS, &path, sizeof path);
    while (getline(&line, &room, stdin) > 0) {
        unsigned stream, ppid, unordered;
        int at = 0;
        if (sscanf(line, "m %u %u %u %n", &stream, &ppid, &unordered, &at) == 3 && at > 0)
            send_message(sctp, stream, ppid, unordered, line + at);
        else if (sscanf(line, "r %u", &stream) == 1)
            reset_stream(sctp, stream);
    }
    return 0;
}
