#include "nats_door.h"

#include <stdlib.h>

/* The header alone is needed to build, and only where it is; the library is opened when it is used. Its options are structures that
   change between versions, so that the library of the header's version is loaded, and no other. */
#if !__has_include(<nats/nats.h>)

const char *fc_nats_obstacle(void) {
    return "this program was built without NATS; install libnats-dev and build it again";
}
int fc_nats_open(const char *const *servers, int count, const char *ca, const struct fc_nats_login *login, struct fc_nats **out) {
    *out = NULL;
    return FC_NATS_WRONG;
}
void fc_nats_close(struct fc_nats *nats) {}
const char *fc_nats_error(struct fc_nats *nats) { return fc_nats_obstacle(); }
int fc_nats_stream(struct fc_nats *nats, const char *name, struct fc_nats_stream *out) { return FC_NATS_WRONG; }
int fc_nats_make_stream(
    struct fc_nats *nats, const char *name, const char *subject, int64_t messages, int64_t octets, int64_t age, int replicas,
    int64_t window) {
    return FC_NATS_WRONG;
}
int fc_nats_append(
    struct fc_nats *nats, const char *subject, const char *const *headers, const uint8_t *body, size_t count,
    const char *identity, uint64_t last, uint64_t *sequence) {
    return FC_NATS_WRONG;
}
int fc_nats_read(
    struct fc_nats *nats, const char *stream, const char *subject, uint64_t from, int headers_only,
    struct fc_nats_messages **out) {
    return FC_NATS_WRONG;
}
int fc_nats_next(struct fc_nats *nats, struct fc_nats_messages *messages, int patience, struct fc_nats_message *out) {
    return FC_NATS_WRONG;
}
const char *fc_nats_header(const struct fc_nats_message *message, const char *name) { return NULL; }
void fc_nats_let_go(struct fc_nats_message *message) {}
void fc_nats_end_reading(struct fc_nats_messages *messages) {}
int fc_nats_lease(
    struct fc_nats *nats, const char *bucket, const char *key, const char *holder, int64_t life, int replicas,
    uint64_t *revision) {
    return FC_NATS_WRONG;
}
void fc_nats_end_lease(struct fc_nats *nats, const char *key, uint64_t *revision) {}

#else

#include <dlfcn.h>
#include <nats/nats.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#define FUNCTIONS(X)                                                                                                         \
    X(nats_GetLastError) X(natsStatus_GetText) X(natsOptions_Create) X(natsOptions_Destroy) X(natsOptions_SetServers)        \
    X(natsOptions_SetSecure) X(natsOptions_LoadCATrustedCertificates) X(natsOptions_SetUserCredentialsFromFiles)             \
    X(natsOptions_SetMaxReconnect) X(natsOptions_SetReconnectWait) X(natsOptions_SetPingInterval)                            \
    X(natsOptions_SetMaxPingsOut) X(natsOptions_SetTimeout)                                                                 \
    X(natsOptions_SetFailRequestsOnDisconnect) X(natsOptions_SetName) X(natsOptions_SetUserInfo) X(natsOptions_SetToken)     \
    X(natsConnection_Connect) X(natsConnection_Destroy)                                                                      \
    X(natsConnection_Status) X(natsConnection_JetStream) X(jsCtx_Destroy) X(jsOptions_Init) X(js_GetStreamInfo)              \
    X(jsStreamInfo_Destroy) X(jsStreamConfig_Init) X(js_AddStream) X(natsMsg_Create) X(natsMsg_Destroy)                      \
    X(natsMsgHeader_Set) X(natsMsgHeader_Get) X(natsMsg_GetData) X(natsMsg_GetDataLength) X(natsMsg_GetMetaData)             \
    X(jsMsgMetaData_Destroy) X(jsPubOptions_Init) X(js_PublishMsg) X(jsPubAck_Destroy) X(jsSubOptions_Init)                  \
    X(js_SubscribeSync) X(natsSubscription_SetPendingLimits) X(natsSubscription_NextMsg) X(natsSubscription_Destroy)         \
    X(kvConfig_Init) X(js_KeyValue) X(js_CreateKeyValue) X(kvStore_CreateString) X(kvStore_UpdateString) X(kvStore_Delete)   \
    X(kvStore_Destroy) X(natsConnection_GetLastError)

#define DECLARE(name) __typeof__(name) *name;
static struct { FUNCTIONS(DECLARE) } nats_;

#define TEXT(x) #x
#define SONAME(major, minor) "libnats.so." TEXT(major) "." TEXT(minor)
#define PACKAGE(major, minor) "libnats is not installed: apt-get install libnats" TEXT(major) "." TEXT(minor)

static const char *obstacle;
static pthread_once_t once = PTHREAD_ONCE_INIT;

static void load(void) {
    void *library = dlopen(SONAME(NATS_VERSION_MAJOR, NATS_VERSION_MINOR), RTLD_NOW | RTLD_LOCAL);
    if (!library) {
        obstacle = PACKAGE(NATS_VERSION_MAJOR, NATS_VERSION_MINOR);
        return;
    }
#define FIND(name)                                                                                                           \
    if (!(nats_.name = (__typeof__(name) *)dlsym(library, #name))) obstacle = "libnats lacks " #name;
    FUNCTIONS(FIND)
}

const char *fc_nats_obstacle(void) {
    pthread_once(&once, load);
    return obstacle;
}

struct fc_nats {
    natsConnection *connection;
    jsCtx *stream;
    kvStore *bucket;
    char error[256];
};

/* Milliseconds that an answer may take. */
enum { PATIENCE = 2000 };

static int answer(struct fc_nats *nats, natsStatus status, jsErrCode code) {
    if (status == NATS_OK) return FC_NATS_DONE;
    natsStatus last = status;
    const char *detail = nats_.nats_GetLastError(&last);
    const char *text = nats_.natsStatus_GetText(status);
    snprintf(nats->error, sizeof nats->error, "%s%s%s", text, detail && *detail ? ": " : "", detail ? detail : "");
    if (code == JSStreamNotFoundErr) return FC_NATS_MISSING;
    if (code == JSStreamWrongLastSequenceErr) return FC_NATS_TAKEN;
    if (code == JSInsufficientResourcesErr || code == JSStreamStoreFailedErr || code == JSStorageResourcesExceededErr ||
        code == JSAccountResourcesExceededErr || code == JSMemoryResourcesExceededErr ||
        /* A bucket's errors have no number. */
        strstr(nats->error, "insufficient"))
        return FC_NATS_FULL;
    switch (status) {
    case NATS_CONNECTION_AUTH_FAILED:
    case NATS_NOT_PERMITTED:
    case NATS_SSL_ERROR: return FC_NATS_REFUSED;
    case NATS_NOT_FOUND: return FC_NATS_MISSING;
    case NATS_MAX_PAYLOAD:
    case NATS_INVALID_ARG: return FC_NATS_WRONG;
    default: return FC_NATS_FAILED;
    }
}

int fc_nats_open(const char *const *servers, int count, const char *ca, const struct fc_nats_login *login, struct fc_nats **out) {
    struct fc_nats *nats = *out = calloc(1, sizeof *nats);
    if (!nats) return FC_NATS_FAILED;
    natsOptions *options = NULL;
    natsStatus status = nats_.natsOptions_Create(&options);
    if (status == NATS_OK) status = nats_.natsOptions_SetServers(options, (const char **)servers, count);
    if (status == NATS_OK) status = nats_.natsOptions_SetName(options, "flexicast");
    if (status == NATS_OK && ca) status = nats_.natsOptions_SetSecure(options, true);
    if (status == NATS_OK && ca) status = nats_.natsOptions_LoadCATrustedCertificates(options, ca);
    if (status == NATS_OK && login->file) status = nats_.natsOptions_SetUserCredentialsFromFiles(options, login->file, NULL);
    if (status == NATS_OK && login->user) status = nats_.natsOptions_SetUserInfo(options, login->user, login->password);
    if (status == NATS_OK && login->token) status = nats_.natsOptions_SetToken(options, login->token);
    if (status == NATS_OK) status = nats_.natsOptions_SetTimeout(options, PATIENCE);
    if (status == NATS_OK) status = nats_.natsOptions_SetMaxReconnect(options, -1);
    if (status == NATS_OK) status = nats_.natsOptions_SetReconnectWait(options, 100);
    /* A server that was cut off is noticed after two or three seconds; usual are minutes. */
    if (status == NATS_OK) status = nats_.natsOptions_SetPingInterval(options, 1000);
    if (status == NATS_OK) status = nats_.natsOptions_SetMaxPingsOut(options, 2);
    if (status == NATS_OK) status = nats_.natsOptions_SetFailRequestsOnDisconnect(options, true);
    if (status == NATS_OK) status = nats_.natsConnection_Connect(&nats->connection, options);
    jsOptions js;
    nats_.jsOptions_Init(&js);
    js.Wait = PATIENCE;
    if (status == NATS_OK) status = nats_.natsConnection_JetStream(&nats->stream, nats->connection, &js);
    int result = answer(nats, status, 0);
    nats_.natsOptions_Destroy(options);
    return result;
}

void fc_nats_close(struct fc_nats *nats) {
    if (!nats) return;
    if (nats->bucket) nats_.kvStore_Destroy(nats->bucket);
    if (nats->stream) nats_.jsCtx_Destroy(nats->stream);
    if (nats->connection) nats_.natsConnection_Destroy(nats->connection);
    free(nats);
}

const char *fc_nats_error(struct fc_nats *nats) { return nats ? nats->error : "there is no memory for a connection"; }

int fc_nats_stream(struct fc_nats *nats, const char *name, struct fc_nats_stream *out) {
    jsStreamInfo *info = NULL;
    jsErrCode code = 0;
    natsStatus status = nats_.js_GetStreamInfo(&info, nats->stream, name, NULL, &code);
    if (status != NATS_OK) return answer(nats, status, code);
    *out = (struct fc_nats_stream){
        info->Created, info->State.FirstSeq, info->State.LastSeq, info->State.Msgs, info->State.Bytes};
    nats_.jsStreamInfo_Destroy(info);
    return FC_NATS_DONE;
}

int fc_nats_make_stream(
    struct fc_nats *nats, const char *name, const char *subject, int64_t messages, int64_t octets, int64_t age, int replicas,
    int64_t window) {
    jsStreamConfig config;
    nats_.jsStreamConfig_Init(&config);
    config.Name = name;
    config.Subjects = &subject;
    config.SubjectsLen = 1;
    if (messages > 0) config.MaxMsgs = messages;
    if (octets > 0) config.MaxBytes = octets;
    if (age > 0) config.MaxAge = age;
    config.Storage = js_FileStorage;
    config.Discard = js_DiscardOld;
    config.Replicas = replicas;
    config.Duplicates = age > 0 && age < window ? age : window;
    jsErrCode code = 0;
    natsStatus status = nats_.js_AddStream(NULL, nats->stream, &config, NULL, &code);
    /* It is there, and is what its operator made it. */
    if (code == JSStreamNameExistErr) return FC_NATS_DONE;
    return answer(nats, status, code);
}

int fc_nats_append(
    struct fc_nats *nats, const char *subject, const char *const *headers, const uint8_t *body, size_t count,
    const char *identity, uint64_t last, uint64_t *sequence) {
    natsMsg *message = NULL;
    natsStatus status = nats_.natsMsg_Create(&message, subject, NULL, (const char *)body, (int)count);
    for (; status == NATS_OK && headers[0]; headers += 2)
        status = nats_.natsMsgHeader_Set(message, headers[0], headers[1]);
    jsPubOptions options;
    nats_.jsPubOptions_Init(&options);
    options.MsgId = identity;
    options.ExpectLastSeq = last;
    options.MaxWait = PATIENCE;
    jsPubAck *ack = NULL;
    jsErrCode code = 0;
    if (status == NATS_OK) status = nats_.js_PublishMsg(&ack, nats->stream, message, &options, &code);
    int result = answer(nats, status, code);
    if (ack) *sequence = ack->Sequence;
    if (ack) nats_.jsPubAck_Destroy(ack);
    if (message) nats_.natsMsg_Destroy(message);
    return result;
}

static natsSubscription *subscription(struct fc_nats_messages *messages) { return (natsSubscription *)messages; }

int fc_nats_read(
    struct fc_nats *nats, const char *stream, const char *subject, uint64_t from, int headers_only,
    struct fc_nats_messages **out) {
    jsSubOptions options;
    nats_.jsSubOptions_Init(&options);
    options.Stream = stream;
    options.Ordered = true;
    options.Config.DeliverPolicy = js_DeliverByStartSequence;
    options.Config.OptStartSeq = from;
    options.Config.HeadersOnly = headers_only != 0;
    natsSubscription *made = NULL;
    jsErrCode code = 0;
    natsStatus status = nats_.js_SubscribeSync(&made, nats->stream, subject, NULL, &options, &code);
    /* The server waits for us by itself: what has come and was not taken is bounded by its flow control. */
    if (status == NATS_OK) status = nats_.natsSubscription_SetPendingLimits(made, -1, -1);
    *out = (struct fc_nats_messages *)made;
    return answer(nats, status, code);
}

int fc_nats_next(struct fc_nats *nats, struct fc_nats_messages *messages, int patience, struct fc_nats_message *out) {
    natsMsg *message = NULL;
    natsStatus status = nats_.natsSubscription_NextMsg(&message, subscription(messages), patience);
    if (status == NATS_TIMEOUT) {
        if (nats_.natsConnection_Status(nats->connection) == NATS_CONN_STATUS_CONNECTED) return FC_NATS_NONE;
        const char *detail = NULL;
        nats_.natsConnection_GetLastError(nats->connection, &detail);
        snprintf(nats->error, sizeof nats->error, "no server answers%s%s", detail && *detail ? ": " : "", detail ? detail : "");
        return FC_NATS_FAILED;
    }
    if (status != NATS_OK) return answer(nats, status, 0);
    jsMsgMetaData *facts = NULL;
    status = nats_.natsMsg_GetMetaData(&facts, message);
    if (status != NATS_OK) {
        nats_.natsMsg_Destroy(message);
        return answer(nats, status, 0);
    }
    *out = (struct fc_nats_message){
        facts->Sequence.Stream, facts->Timestamp, (const uint8_t *)nats_.natsMsg_GetData(message),
        (size_t)nats_.natsMsg_GetDataLength(message), message};
    nats_.jsMsgMetaData_Destroy(facts);
    return FC_NATS_DONE;
}

const char *fc_nats_header(const struct fc_nats_message *message, const char *name) {
    const char *value = NULL;
    return nats_.natsMsgHeader_Get(message->handle, name, &value) == NATS_OK ? value : NULL;
}

void fc_nats_let_go(struct fc_nats_message *message) { nats_.natsMsg_Destroy(message->handle); }

void fc_nats_end_reading(struct fc_nats_messages *messages) {
    if (messages) nats_.natsSubscription_Destroy(subscription(messages));
}

int fc_nats_lease(
    struct fc_nats *nats, const char *bucket, const char *key, const char *holder, int64_t life, int replicas,
    uint64_t *revision) {
    natsStatus status = NATS_OK;
    if (!nats->bucket) {
        status = nats_.js_KeyValue(&nats->bucket, nats->stream, bucket);
        if (status == NATS_NOT_FOUND) {
            kvConfig config;
            nats_.kvConfig_Init(&config);
            config.Bucket = bucket;
            config.History = 1;
            config.TTL = life;
            config.Replicas = replicas;
            config.StorageType = js_FileStorage;
            status = nats_.js_CreateKeyValue(&nats->bucket, nats->stream, &config);
        }
        if (status != NATS_OK) return answer(nats, status, 0);
    }
    uint64_t made = 0;
    status = *revision ? nats_.kvStore_UpdateString(&made, nats->bucket, key, holder, *revision)
                       : nats_.kvStore_CreateString(&made, nats->bucket, key, holder);
    int result = answer(nats, status, 0);
    if (result == FC_NATS_DONE) *revision = made;
    if (result != FC_NATS_DONE && strstr(nats->error, "wrong last sequence")) result = FC_NATS_TAKEN;
    return result;
}

void fc_nats_end_lease(struct fc_nats *nats, const char *key, uint64_t *revision) {
    if (nats->bucket && *revision) nats_.kvStore_Delete(nats->bucket, key);
    *revision = 0;
}

#endif
