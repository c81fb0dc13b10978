/* What the DTLS peers in C share: their arguments, a connected UDP socket, and waiting.
 *
 *     PROGRAM client|server ADDRESS:PORT CERTIFICATE.pem KEY.pem SRTP-PROFILE-NUMBER MTU [OPTION]
 *
 * Each shakes hands, prints "key material: HEX" (the exported SRTP keys), and then passes lines between its standard
 * streams and the connection. A server prints "ready" before it waits for its client.
 */
#ifndef PEER_H
#define PEER_H

#include <arpa/inet.h>
#include <fcntl.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define EXPORT_LABEL "EXTRACTOR-dtls_srtp"
#define EXPORT_LENGTH 60
#define MAX_LINE 1024

struct arguments {
    int is_server;
    const char *certificate, *key, *option;
    int profile, mtu;
    int socket; /* connected to the peer */
    struct sockaddr_in peer;
};

static void fail(const char *what, long code) {
    printf("failed: %s (%ld)\n", what, code);
    exit(1);
}

/* Wait until the socket, or standard input, has something: 1 for the socket, 2 for input, 3 for both, 0 for neither. */
static int wait_for(int descriptor, int with_input, int milliseconds) {
    struct pollfd waits[2] = {{descriptor, POLLIN, 0}, {0, POLLIN, 0}};
    if (poll(waits, with_input ? 2 : 1, milliseconds) < 0) fail("poll", 0);
    return (waits[0].revents ? 1 : 0) | (with_input && waits[1].revents ? 2 : 0);
}

static struct arguments read_arguments(int count, char **values) {
    struct arguments result = {0};
    struct sockaddr_in address = {.sin_family = AF_INET};
    char host[64], byte;
    socklen_t size = sizeof result.peer;
    int port;

    setvbuf(stdout, NULL, _IOLBF, 0);
    if (count < 7 || sscanf(values[2], "%63[^:]:%d", host, &port) != 2) fail("usage", count);
    result.is_server = strcmp(values[1], "server") == 0;
    result.certificate = values[3];
    result.key = values[4];
    result.profile = atoi(values[5]);
    result.mtu = atoi(values[6]);
    result.option = count > 7 ? values[7] : "";
    address.sin_port = htons((uint16_t)port);
    if (inet_pton(AF_INET, host, &address.sin_addr) != 1) fail("address", 0);
    result.socket = socket(AF_INET, SOCK_DGRAM, 0);
    if (result.socket < 0) fail("socket", 0);
    result.peer = address;
    if (result.is_server) {
        if (bind(result.socket, (struct sockaddr *)&address, sizeof address)) fail("bind", port);
        puts("ready");
        if (recvfrom(result.socket, &byte, 1, MSG_PEEK, (struct sockaddr *)&result.peer, &size) < 0) fail("peek", 0);
    }
    if (connect(result.socket, (struct sockaddr *)&result.peer, sizeof result.peer)) fail("connect", 0);
    return result;
}

static void print_keys(const unsigned char *keys) {
    printf("key material: ");
    for (int index = 0; index < EXPORT_LENGTH; index++) printf("%02X", keys[index]);
    printf("\n");
}

#endif
