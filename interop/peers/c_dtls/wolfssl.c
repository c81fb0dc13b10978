/* wolfSSL as a DTLS peer. OPTION: "1.2", "1.3", or "hybrid" (1.3, and as client X25519MLKEM768 is its best group). */
#include <errno.h>

#include <wolfssl/ssl.h>

#include "peer.h"

static int accept_any(int verified, WOLFSSL_X509_STORE_CTX *store) {
    (void)verified;
    (void)store;
    return 1; /* the fingerprint is what the other side compares */
}

static const char *profile_name(int number) {
    switch (number) {
        case 1: return "SRTP_AES128_CM_SHA1_80";
        case 2: return "SRTP_AES128_CM_SHA1_32";
        case 7: return "SRTP_AEAD_AES_128_GCM";
        case 8: return "SRTP_AEAD_AES_256_GCM";
        default: fail("profile", number);
    }
    return NULL;
}

static WOLFSSL_METHOD *method(const struct arguments *given, int is_12) {
    if (given->is_server) return is_12 ? wolfDTLSv1_2_server_method() : wolfDTLSv1_3_server_method();
    return is_12 ? wolfDTLSv1_2_client_method() : wolfDTLSv1_3_client_method();
}

static WOLFSSL *make(const struct arguments *given) {
    int is_12 = strcmp(given->option, "1.2") == 0;
    int hybrid[] = {WOLFSSL_X25519MLKEM768, WOLFSSL_ECC_X25519, WOLFSSL_ECC_SECP256R1};
    int classical[] = {WOLFSSL_ECC_X25519, WOLFSSL_ECC_SECP256R1};
    int wants_hybrid = strcmp(given->option, "hybrid") == 0;
    WOLFSSL_CTX *context;
    WOLFSSL *ssl;

    wolfSSL_Init();
    context = wolfSSL_CTX_new(method(given, is_12));
    if (context == NULL) fail("context", 0);
    if (wolfSSL_CTX_use_certificate_file(context, given->certificate, WOLFSSL_FILETYPE_PEM) != WOLFSSL_SUCCESS)
        fail("certificate", 0);
    if (wolfSSL_CTX_use_PrivateKey_file(context, given->key, WOLFSSL_FILETYPE_PEM) != WOLFSSL_SUCCESS)
        fail("key", 0);
    wolfSSL_CTX_set_verify(context, WOLFSSL_VERIFY_PEER | WOLFSSL_VERIFY_FAIL_IF_NO_PEER_CERT, accept_any);
    if (wolfSSL_CTX_set_tlsext_use_srtp(context, profile_name(given->profile)) != 0) fail("srtp", given->profile);
    if (wolfSSL_CTX_dtls_set_mtu(context, (unsigned short)given->mtu) != WOLFSSL_SUCCESS) fail("mtu", given->mtu);
    ssl = wolfSSL_new(context);
    if (ssl == NULL) fail("connection", 0);
    if (!is_12) {
        int count = wants_hybrid ? 3 : 2;
        if (wolfSSL_set_groups(ssl, wants_hybrid ? hybrid : classical, count) != WOLFSSL_SUCCESS) fail("groups", 0);
        wolfSSL_dtls13_use_quick_timeout(ssl);
    }
    wolfSSL_KeepArrays(ssl); /* or there is nothing left to export from */
    wolfSSL_dtls_set_using_nonblock(ssl, 1);
    wolfSSL_set_dtls_fd_connected(ssl, given->socket);
    wolfSSL_dtls_set_peer(ssl, (void *)&given->peer, sizeof given->peer);
    return ssl;
}

static int is_patient(WOLFSSL *ssl, int result) {
    int error = wolfSSL_get_error(ssl, result);
    return error == WOLFSSL_ERROR_WANT_READ || error == WOLFSSL_ERROR_WANT_WRITE;
}

int main(int count, char **values) {
    struct arguments given = read_arguments(count, values);
    WOLFSSL *ssl = make(&given);
    unsigned char keys[EXPORT_LENGTH];
    char line[MAX_LINE];
    int result;

    fcntl(given.socket, F_SETFL, fcntl(given.socket, F_GETFL) | O_NONBLOCK);
    while ((result = wolfSSL_negotiate(ssl)) != WOLFSSL_SUCCESS) {
        if (!is_patient(ssl, result)) fail("handshake", wolfSSL_get_error(ssl, result));
        /* Its shortest timeout is a second: a loss would cost tests that. */
        if (wait_for(given.socket, 0, 200) == 0 && wolfSSL_dtls_got_timeout(ssl) != WOLFSSL_SUCCESS)
            fail("timeout", 0);
    }
    if (wolfSSL_export_keying_material(ssl, keys, sizeof keys, EXPORT_LABEL, strlen(EXPORT_LABEL), NULL, 0, 0)
        != WOLFSSL_SUCCESS)
        fail("export", 0);
    print_keys(keys);
    printf("spoke %s, %s\n", wolfSSL_get_version(ssl), wolfSSL_get_curve_name(ssl));
    for (;;) {
        int ready = wait_for(given.socket, 1, 200);
        if (ready & 1) {
            while ((result = wolfSSL_read(ssl, line, sizeof line - 1)) > 0) {
                fwrite(line, 1, (size_t)result, stdout);
                fflush(stdout);
            }
            if (!is_patient(ssl, result)) return 0;
        }
        if (ready & 2) {
            ssize_t size = read(0, line, sizeof line);
            if (size <= 0) {
                wolfSSL_shutdown(ssl);
                return 0;
            }
            wolfSSL_write(ssl, line, (int)size);
        }
        if (ready == 0 && strcmp(given.option, "1.2") != 0) wolfSSL_dtls_got_timeout(ssl); /* ACKs, and repeats */
    }
}
