/* NSS as a DTLS 1.2 peer. Debian's 3.87 speaks draft 43 of DTLS 1.3, which is no version of ours. It chooses the size
 * of its datagrams by itself: MTU is ignored. */
#include <nspr.h>
#include <private/pprio.h>

#include <base64.h>
#include <cert.h>
#include <keyhi.h>
#include <nss.h>
#include <pk11pub.h>
#include <ssl.h>
#include <sslproto.h>

#include "peer.h"

static void check(const char *what, SECStatus status) {
    if (status != SECSuccess) fail(what, PR_GetError());
}

static SECStatus accept_any(void *context, PRFileDesc *fd, PRBool check_signature, PRBool is_server) {
    (void)context, (void)fd, (void)check_signature, (void)is_server;
    return SECSuccess; /* the fingerprint is what the other side compares */
}

/* The bytes between the lines of a PEM file. */
static SECItem read_pem(const char *name) {
    static char text[2][8192];
    static int used;
    char *buffer = text[used++], line[256];
    FILE *file = fopen(name, "r");
    SECItem item = {siBuffer, NULL, 0};
    size_t size = 0;

    if (file == NULL) fail("open", 0);
    while (fgets(line, sizeof line, file) != NULL && size + sizeof line < sizeof text[0])
        if (line[0] != '-') {
            line[strcspn(line, "\r\n")] = 0;
            size += (size_t)snprintf(buffer + size, sizeof text[0] - size, "%s", line);
        }
    fclose(file);
    item.data = ATOB_AsciiToData(buffer, &item.len);
    if (item.data == NULL) fail("base64", 0);
    return item;
}

static CERTCertificate *certificate;
static SECKEYPrivateKey *key;

static void read_identity(const struct arguments *given) {
    SECItem der = read_pem(given->certificate), key_der = read_pem(given->key);
    PK11SlotInfo *slot = PK11_GetInternalSlot();

    certificate = CERT_NewTempCertificate(CERT_GetDefaultCertDB(), &der, NULL, PR_FALSE, PR_TRUE);
    if (certificate == NULL) fail("certificate", PR_GetError());
    check("key", PK11_ImportDERPrivateKeyInfoAndReturnKey(slot, &key_der, NULL, NULL, PR_FALSE, PR_FALSE, KU_ALL, &key,
                                                          NULL));
}

static SECStatus hand_out(void *context, PRFileDesc *fd, CERTDistNames *names, CERTCertificate **shown,
                          SECKEYPrivateKey **with) {
    (void)context, (void)fd, (void)names;
    *shown = CERT_DupCertificate(certificate);
    *with = SECKEY_CopyPrivateKey(key);
    return SECSuccess;
}

static PRFileDesc *make(const struct arguments *given) {
    SSLVersionRange range = {SSL_LIBRARY_VERSION_TLS_1_2, SSL_LIBRARY_VERSION_TLS_1_2};
    PRUint16 profile = (PRUint16)given->profile;
    PRFileDesc *udp = PR_ImportUDPSocket(given->socket), *fd;
    PRSocketOptionData option = {PR_SockOpt_Nonblocking, {PR_TRUE}};

    if (udp == NULL || PR_SetSocketOption(udp, &option) != PR_SUCCESS) fail("socket", PR_GetError());
    fd = DTLS_ImportFD(NULL, udp);
    if (fd == NULL) fail("import", PR_GetError());
    check("version", SSL_VersionRangeSet(fd, &range));
    check("profile", SSL_SetSRTPCiphers(fd, &profile, 1));
    check("authenticate", SSL_AuthCertificateHook(fd, accept_any, NULL));
    check("cache", SSL_OptionSet(fd, SSL_NO_CACHE, PR_TRUE)); /* a server without one ends by SIGSEGV otherwise */
    if (given->is_server) {
        check("certificate", SSL_ConfigServerCert(fd, certificate, key, NULL, 0));
        check("request", SSL_OptionSet(fd, SSL_REQUEST_CERTIFICATE, PR_TRUE));
        check("require", SSL_OptionSet(fd, SSL_REQUIRE_CERTIFICATE, SSL_REQUIRE_ALWAYS));
    } else {
        check("certificate", SSL_GetClientAuthDataHook(fd, hand_out, NULL));
        check("url", SSL_SetURL(fd, "peer"));
    }
    check("reset", SSL_ResetHandshake(fd, given->is_server));
    return fd;
}

/* NSS repeats its flights when it is asked to read. */
static void shake_hands(PRFileDesc *fd, int descriptor) {
    PRIntervalTime rest;
    while (SSL_ForceHandshake(fd) != SECSuccess) {
        if (PR_GetError() != PR_WOULD_BLOCK_ERROR) fail("handshake", PR_GetError());
        wait_for(descriptor, 0, DTLS_GetHandshakeTimeout(fd, &rest) == SECSuccess ? 20 : 50);
    }
}

int main(int count, char **values) {
    struct arguments given = read_arguments(count, values);
    unsigned char keys[EXPORT_LENGTH];
    char line[MAX_LINE];
    PRUint16 profile;
    PRFileDesc *fd;
    PRInt32 size;

    check("start", NSS_NoDB_Init(NULL));
    check("policy", NSS_SetDomesticPolicy());
    read_identity(&given);
    fd = make(&given);
    shake_hands(fd, given.socket);
    check("no profile", SSL_GetSRTPCipher(fd, &profile));
    check("export", SSL_ExportKeyingMaterial(fd, EXPORT_LABEL, strlen(EXPORT_LABEL), PR_FALSE, NULL, 0, keys, sizeof keys));
    print_keys(keys);
    for (;;) {
        int ready = wait_for(given.socket, 1, 50);
        while ((size = PR_Read(fd, line, sizeof line)) > 0) {
            fwrite(line, 1, (size_t)size, stdout);
            fflush(stdout);
        }
        if (size == 0) return 0;
        if (PR_GetError() != PR_WOULD_BLOCK_ERROR) fail("read", PR_GetError());
        if (ready & 2) {
            ssize_t typed = read(0, line, sizeof line);
            if (typed <= 0) {
                PR_Shutdown(fd, PR_SHUTDOWN_SEND);
                return 0;
            }
            PR_Write(fd, line, (PRInt32)typed);
        }
    }
}
