/* mbedTLS 2.28 as a DTLS 1.2 peer, as the firmware of many devices has it. */
#include <mbedtls/ctr_drbg.h>
#include <mbedtls/entropy.h>
#include <mbedtls/error.h>
#include <mbedtls/net_sockets.h>
#include <mbedtls/ssl.h>
#include <mbedtls/timing.h>

#include "peer.h"

#if !defined(MBEDTLS_SSL_DTLS_SRTP)
#error "this mbedTLS was built without SRTP"
#endif

static unsigned char master_secret[48], randoms[64];
static mbedtls_tls_prf_types prf_kind;

/* 2.28 has no exporter of its own: this hands out what RFC 5705 section 4 needs. */
static int note_keys(void *context, const unsigned char *secret, const unsigned char *block, size_t mac_length,
                     size_t key_length, size_t iv_length, const unsigned char client_random[32],
                     const unsigned char server_random[32], mbedtls_tls_prf_types kind) {
    (void)context, (void)block, (void)mac_length, (void)key_length, (void)iv_length;
    memcpy(master_secret, secret, sizeof master_secret);
    memcpy(randoms, client_random, 32);
    memcpy(randoms + 32, server_random, 32);
    prf_kind = kind;
    return 0;
}

static void check(const char *what, int result) {
    if (result != 0) fail(what, result);
}

int main(int count, char **values) {
    struct arguments given = read_arguments(count, values);
    mbedtls_ssl_srtp_profile profiles[] = {MBEDTLS_TLS_SRTP_UNSET, MBEDTLS_TLS_SRTP_UNSET};
    mbedtls_net_context net = {given.socket};
    mbedtls_timing_delay_context timer;
    mbedtls_entropy_context entropy;
    mbedtls_ctr_drbg_context random;
    mbedtls_ssl_context ssl;
    mbedtls_ssl_config config;
    mbedtls_x509_crt certificate;
    mbedtls_pk_context key;
    mbedtls_dtls_srtp_info srtp;
    unsigned char keys[EXPORT_LENGTH];
    char line[MAX_LINE];
    int result;

    mbedtls_entropy_init(&entropy);
    mbedtls_ctr_drbg_init(&random);
    mbedtls_ssl_init(&ssl);
    mbedtls_ssl_config_init(&config);
    mbedtls_x509_crt_init(&certificate);
    mbedtls_pk_init(&key);
    check("random", mbedtls_ctr_drbg_seed(&random, mbedtls_entropy_func, &entropy, NULL, 0));
    check("certificate", mbedtls_x509_crt_parse_file(&certificate, given.certificate));
    check("key", mbedtls_pk_parse_keyfile(&key, given.key, NULL));
    check("defaults", mbedtls_ssl_config_defaults(
        &config, given.is_server ? MBEDTLS_SSL_IS_SERVER : MBEDTLS_SSL_IS_CLIENT, MBEDTLS_SSL_TRANSPORT_DATAGRAM,
        MBEDTLS_SSL_PRESET_DEFAULT));
    mbedtls_ssl_conf_rng(&config, mbedtls_ctr_drbg_random, &random);
    /* OPTIONAL asks for a certificate and takes any: the fingerprint is what the other side compares. */
    mbedtls_ssl_conf_authmode(&config, MBEDTLS_SSL_VERIFY_OPTIONAL);
    check("own certificate", mbedtls_ssl_conf_own_cert(&config, &certificate, &key));
    profiles[0] = (mbedtls_ssl_srtp_profile)given.profile;
    check("profile", mbedtls_ssl_conf_dtls_srtp_protection_profiles(&config, profiles));
    mbedtls_ssl_conf_handshake_timeout(&config, 100, 3000);
    mbedtls_ssl_conf_export_keys_ext_cb(&config, note_keys, NULL);
    if (given.is_server) mbedtls_ssl_conf_dtls_cookies(&config, NULL, NULL, NULL); /* ICE has validated the path */
    check("setup", mbedtls_ssl_setup(&ssl, &config));
    mbedtls_ssl_set_mtu(&ssl, (uint16_t)given.mtu);
    mbedtls_ssl_set_timer_cb(&ssl, &timer, mbedtls_timing_set_delay, mbedtls_timing_get_delay);
    mbedtls_ssl_set_bio(&ssl, &net, mbedtls_net_send, mbedtls_net_recv, mbedtls_net_recv_timeout);
    do {
        result = mbedtls_ssl_handshake(&ssl);
    } while (result == MBEDTLS_ERR_SSL_WANT_READ || result == MBEDTLS_ERR_SSL_WANT_WRITE);
    check("handshake", result);
    mbedtls_ssl_get_dtls_srtp_negotiation_result(&ssl, &srtp);
    if ((int)srtp.chosen_dtls_srtp_profile != given.profile) fail("no profile", srtp.chosen_dtls_srtp_profile);
    check("export", mbedtls_ssl_tls_prf(prf_kind, master_secret, sizeof master_secret, EXPORT_LABEL, randoms,
                                        sizeof randoms, keys, sizeof keys));
    print_keys(keys);
    mbedtls_ssl_conf_read_timeout(&config, 10); /* milliseconds: to read is not to wait */
    for (;;) {
        int ready = wait_for(given.socket, 1, 200);
        if (ready & 1) {
            while ((result = mbedtls_ssl_read(&ssl, (unsigned char *)line, sizeof line)) > 0) {
                fwrite(line, 1, (size_t)result, stdout);
                fflush(stdout);
            }
            if (result != MBEDTLS_ERR_SSL_WANT_READ && result != MBEDTLS_ERR_SSL_TIMEOUT) return 0;
        }
        if (ready & 2) {
            ssize_t size = read(0, line, sizeof line);
            if (size <= 0) {
                mbedtls_ssl_close_notify(&ssl);
                return 0;
            }
            mbedtls_ssl_write(&ssl, (unsigned char *)line, (size_t)size);
        }
    }
}
