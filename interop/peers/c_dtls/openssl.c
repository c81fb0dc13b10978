/* OpenSSL as a DTLS 1.2 peer: its own s_server leaves a connection over DTLS without close_notify. */
#include <openssl/bio.h>
#include <openssl/ssl.h>

#include "peer.h"

static int accept_any(int verified, X509_STORE_CTX *store) {
    (void)verified, (void)store;
    return 1; /* the fingerprint is what the other side compares */
}

static const char *profile_name(int number) {
    switch (number) {
        case 1: return "SRTP_AES128_CM_SHA1_80";
        case 7: return "SRTP_AEAD_AES_128_GCM";
        default: fail("profile", number);
    }
    return NULL;
}

static SSL *make(const struct arguments *given) {
    SSL_CTX *context = SSL_CTX_new(DTLS_method());
    BIO *bio = BIO_new_dgram(given->socket, BIO_NOCLOSE);
    SSL *ssl;

    if (SSL_CTX_use_certificate_file(context, given->certificate, SSL_FILETYPE_PEM) != 1) fail("certificate", 0);
    if (SSL_CTX_use_PrivateKey_file(context, given->key, SSL_FILETYPE_PEM) != 1) fail("key", 0);
    if (SSL_CTX_set_tlsext_use_srtp(context, profile_name(given->profile)) != 0) fail("srtp", given->profile);
    SSL_CTX_set_verify(context, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, accept_any);
    ssl = SSL_new(context);
    BIO_ctrl(bio, BIO_CTRL_DGRAM_SET_CONNECTED, 0, (void *)&given->peer);
    SSL_set_bio(ssl, bio, bio);
    SSL_set_options(ssl, SSL_OP_NO_QUERY_MTU);
    DTLS_set_link_mtu(ssl, given->mtu);
    given->is_server ? SSL_set_accept_state(ssl) : SSL_set_connect_state(ssl);
    return ssl;
}

static int is_patient(SSL *ssl, int result) {
    int error = SSL_get_error(ssl, result);
    return error == SSL_ERROR_WANT_READ || error == SSL_ERROR_WANT_WRITE;
}

int main(int count, char **values) {
    struct arguments given = read_arguments(count, values);
    SSL *ssl = make(&given);
    unsigned char keys[EXPORT_LENGTH];
    char line[MAX_LINE];
    int result;

    fcntl(given.socket, F_SETFL, fcntl(given.socket, F_GETFL) | O_NONBLOCK);
    while ((result = SSL_do_handshake(ssl)) != 1) {
        if (!is_patient(ssl, result)) fail("handshake", SSL_get_error(ssl, result));
        if (wait_for(given.socket, 0, 50) == 0) DTLSv1_handle_timeout(ssl);
    }
    if (SSL_export_keying_material(ssl, keys, sizeof keys, EXPORT_LABEL, strlen(EXPORT_LABEL), NULL, 0, 0) != 1)
        fail("export", 0);
    print_keys(keys);
    for (;;) {
        int ready = wait_for(given.socket, 1, 200);
        if (ready & 1) {
            while ((result = SSL_read(ssl, line, sizeof line)) > 0) {
                fwrite(line, 1, (size_t)result, stdout);
                fflush(stdout);
            }
            if (!is_patient(ssl, result)) return 0;
        }
        if (ready & 2) {
            ssize_t size = read(0, line, sizeof line);
            if (size <= 0) {
                SSL_shutdown(ssl);
                return 0;
            }
            SSL_write(ssl, line, (int)size);
        }
    }
}
