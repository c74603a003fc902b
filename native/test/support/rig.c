#include "rig.h"

#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "../../core/fault.h"
#include "../../core/internal.h"
#include "../library.h"
#include "../test.h"

static char key_pem[2048], certificate_pem[4096];

static void make_certificate(void) {
  if (key_pem[0] != '\0')
    return;
  ASSERT_EQ(valk_ledger_install(), 0); /* before OpenSSL's first allocation */
  EVP_PKEY *key = EVP_EC_gen("P-256");
  X509 *certificate = X509_new();
  ASN1_INTEGER_set(X509_get_serialNumber(certificate), 1);
  X509_gmtime_adj(X509_getm_notBefore(certificate), -60);
  X509_gmtime_adj(X509_getm_notAfter(certificate), 86400);
  X509_set_pubkey(certificate, key);
  X509_NAME *name = X509_get_subject_name(certificate);
  X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC, (const unsigned char *) "localhost", -1, -1,
                             0);
  X509_set_issuer_name(certificate, name);
  X509_sign(certificate, key, EVP_sha256());
  BIO *bio = BIO_new(BIO_s_mem());
  PEM_write_bio_PrivateKey(bio, key, NULL, NULL, 0, NULL, NULL);
  BIO_read(bio, key_pem, sizeof(key_pem) - 1);
  BIO_free(bio);
  bio = BIO_new(BIO_s_mem());
  PEM_write_bio_X509(bio, certificate);
  BIO_read(bio, certificate_pem, sizeof(certificate_pem) - 1);
  BIO_free(bio);
  X509_free(certificate);
  EVP_PKEY_free(key);
}

const char *rig_key(void) {
  make_certificate();
  return key_pem;
}

const char *rig_certificate(void) {
  make_certificate();
  return certificate_pem;
}

bool rig_is_hosted;

valk_config_t rig_config(void) {
  return (valk_config_t){
      .max_connections = 100,
      .max_concurrent_streams = 100,
      .tcp_buffer_pool_size = 1450,
      .arena_pool_size = 200,
      .queue_capacity = 200,
      .io_threads = rig_is_hosted ? 0 : 1,
      .max_overflow_arenas = 0,
      .queue_timeout_ms = 30000,
      .handler_timeout_ms = 300000,
      .handshake_timeout_ms = 10000,
      .idle_timeout_ms = 75000,
      .headers_timeout_ms = 10000,
      .body_timeout_ms = 30000,
      .min_body_rate = 240,
      .write_timeout_ms = 30000,
      .max_header_list_size = 32768,
      .arena_size = 64u << 20,
      .max_request_body_size = 8u << 20,
      .connection_heap_size = (256u << 10) + 100 * 8192,
  };
}

/* ---- what a request is about; set as its data ---- */

typedef struct {
  size_t left; /* /big: bytes still to write */
  size_t offset;
  bool echo; /* stream mode: the body is written back as it comes */
} work_t;

static valk_buffer_t *text_buffer(const char *fields, const void *body, size_t length) {
  size_t head = strlen(fields);
  valk_buffer_t *buffer = valk_buffer_new((uint32_t) (head + length));
  if (buffer == NULL)
    return NULL;
  memcpy(buffer->data, fields, head);
  if (length > 0)
    memcpy(buffer->data + head, body, length);
  return buffer;
}

static int respond(valk_request_t *request, uint16_t status, const char *fields, const void *body,
                   size_t length) {
  valk_buffer_t *buffer = text_buffer(fields, body, length);
  if (buffer == NULL) {
    valk_request_reset(request, 2);
    return 0;
  }
  return valk_request_respond(request, status, buffer, (uint32_t) strlen(fields), -1,
                              VALK_ANSWER_END);
}

/* What is lent, and when it has been let go. */
typedef struct {
  rig_t *rig;
  uint8_t bytes[];
} lent_t;

static void release_lent(void *owner) {
  lent_t *lent = owner;
  atomic_fetch_add(&lent->rig->released, 1);
  free(lent);
}

static void respond_lent(rig_t *rig, valk_request_t *request, uint32_t length) {
  lent_t *lent = malloc(sizeof(*lent) + length);
  lent->rig = rig;
  for (uint32_t i = 0; i < length; i++)
    lent->bytes[i] = client_pattern(i);
  static const char fields[] = "x-kind\nlent\n";
  valk_buffer_t *head = text_buffer(fields, NULL, 0);
  valk_buffer_t *body = valk_buffer_lend(lent->bytes, length, release_lent, lent);
  if (head == NULL || body == NULL) {
    if (head != NULL)
      valk_buffer_free(rig->system, head);
    if (body != NULL) {
      valk_buffer_free(rig->system, body);
    } else {
      release_lent(lent);
    }
    valk_request_reset(request, 2);
    return;
  }
  head->next = body;
  valk_request_respond(request, 200, head, head->length, -1, VALK_ANSWER_END);
}

static const char *path_of(const valk_head_t *head, char *path, size_t size) {
  const char *at = head->text;
  for (int i = 0; i < 3; i++)
    at = memchr(at, '\n', 65536), at++;
  size_t length = (size_t) ((const char *) memchr(at, '\n', 65536) - at);
  if (length >= size)
    length = size - 1;
  memcpy(path, at, length);
  path[length] = '\0';
  return path;
}

static void write_big(rig_t *rig, valk_request_t *request, work_t *work) {
  if (work->left == 0)
    return;
  size_t want = work->left < VALK_WRITE_MAX ? work->left : VALK_WRITE_MAX;
  uint32_t slot = valk_request_slot(request);
  uint32_t taken = valk_budget_take(rig->system, slot, 1, (uint32_t) want);
  if (taken == 0) {
    valk_request_want_writable(request);
    return;
  }
  valk_buffer_t *buffer = valk_buffer_new(taken);
  if (buffer == NULL) {
    valk_budget_give(rig->system, slot, taken);
    valk_request_reset(request, 2);
    return;
  }
  buffer->slot = slot;
  buffer->charged = taken;
  for (uint32_t i = 0; i < taken; i++)
    buffer->data[i] = client_pattern(work->offset + i);
  work->offset += taken;
  work->left -= taken;
  bool last = work->left == 0;
  if (valk_request_write(request, buffer) == 0 && last)
    valk_request_finish(request, NULL);
}

static void hold(rig_t *rig, valk_request_t *request) {
  uv_mutex_lock(&rig->lock);
  for (unsigned i = 0; i < RIG_HELD; i++) {
    if (rig->held[i].used)
      continue;
    rig->held[i] = (rig_held_t){valk_request_handle(request), true};
    rig->held_count++;
    break;
  }
  uv_mutex_unlock(&rig->lock);
}

static bool unhold(rig_t *rig, valk_handle_t handle) {
  bool found = false;
  uv_mutex_lock(&rig->lock);
  for (unsigned i = 0; rig->held_count > 0 && i < RIG_HELD && !found; i++) {
    if (!rig->held[i].used || rig->held[i].handle.id != handle.id ||
        rig->held[i].handle.generation != handle.generation) {
      continue;
    }
    rig->held[i].used = false;
    rig->held_count--;
    found = true;
  }
  uv_mutex_unlock(&rig->lock);
  return found;
}

static int on_request(void *data, valk_request_t *request) {
  rig_t *rig = data;
  if (atomic_load(&rig->full))
    return VALK_EAGAIN;
  if (atomic_load(&rig->no_memory))
    return VALK_ENOMEM;
  atomic_fetch_add(&rig->requests, 1);
  char path[128];
  path_of(valk_request_head(request), path, sizeof(path));
  work_t *work = calloc(1, sizeof(*work));
  ASSERT(work != NULL);
  valk_request_set_data(request, work);
  static const char plain[] = "content-type\ntext/plain\n";
  if (strcmp(path, "/hello") == 0) {
    respond(request, 200, plain, "Hello, world!\n", 14);
  } else if (strcmp(path, "/echo") == 0) {
    bool stream = valk_server_data(valk_request_server(request)) != NULL;
    if (stream && !valk_request_body_ended(request)) {
      work->echo = true;
      valk_buffer_t *head = valk_buffer_new(0);
      if (head == NULL || valk_request_respond(request, 200, head, 0, -1, 0) != 0)
        return 0;
    } else {
      valk_bytes_t body = valk_request_body(request);
      valk_bytes_t trailers = valk_request_trailers(request);
      if (trailers.length > 0) {
        respond(request, 200, plain, trailers.data, trailers.length);
      } else {
        respond(request, 200, plain, body.data, body.length);
      }
    }
  } else if (strncmp(path, "/big/", 5) == 0) {
    work->left = strtoull(path + 5, NULL, 10);
    char fields[] = "x-kind\nbig\n";
    valk_buffer_t *head = text_buffer(fields, NULL, 0);
    if (head == NULL) {
      valk_request_reset(request, 2);
      return 0;
    }
    int64_t length = (int64_t) work->left;
    if (valk_request_respond(request, 200, head, head->length, length, 0) == 0) {
      if (length == 0) {
        valk_request_finish(request, NULL);
      } else {
        write_big(rig, request, work);
      }
    }
  } else if (strncmp(path, "/lent/", 6) == 0) {
    respond_lent(rig, request, (uint32_t) strtoul(path + 6, NULL, 10));
  } else if (strcmp(path, "/trailers") == 0) {
    valk_buffer_t *head = text_buffer("", "body", 4);
    if (head == NULL) {
      valk_request_reset(request, 2);
      return 0;
    }
    valk_request_respond(request, 200, head, 0, -1, 0);
    valk_request_finish(request, text_buffer("x-trailer\nend\n", NULL, 0));
  } else if (strcmp(path, "/bad") == 0) {
    ASSERT_EQ(respond(request, 200, "Bad Name\nx\n", "no", 2), VALK_EINVAL);
  } else if (strcmp(path, "/hold") == 0 || strcmp(path, "/never") == 0) {
    if (atomic_load(&rig->releasing) && path[1] == 'h') {
      respond(request, 200, plain, "held\n", 5);
    } else {
      hold(rig, request);
    }
  } else {
    respond(request, 404, plain, "?\n", 2);
  }
  return 0;
}

static bool on_drop(void *data, valk_request_t *request) {
  rig_t *rig = data;
  if (atomic_load(&rig->claims))
    return false;
  if (!unhold(rig, valk_request_handle(request)))
    return false;
  atomic_fetch_add(&rig->drops, 1);
  free(valk_request_data(request));
  return true;
}

static bool on_abort(void *data, valk_request_t *request, valk_abort_t reason) {
  rig_t *rig = data;
  (void) reason;
  (void) request;
  atomic_fetch_add(&rig->aborts, 1);
  return !atomic_load(&rig->keep_pinned);
}

static int on_body(void *data, valk_request_t *request, const uint8_t *bytes, size_t length) {
  rig_t *rig = data;
  work_t *work = valk_request_data(request);
  atomic_store(&rig->body_room, valk_request_body_room(request));
  atomic_fetch_add(&rig->body_bytes, (unsigned) length);
  if (work->echo) {
    valk_buffer_t *buffer = valk_buffer_new((uint32_t) length);
    if (buffer == NULL)
      return VALK_ENOMEM;
    memcpy(buffer->data, bytes, length);
    valk_request_write(request, buffer);
  }
  if (atomic_load(&rig->keeps_body)) {
    atomic_fetch_add(&rig->kept_bytes, (unsigned) length);
  } else {
    valk_request_consume(request, length);
  }
  return 0;
}

static void on_body_end(void *data, valk_request_t *request) {
  (void) data;
  work_t *work = valk_request_data(request);
  if (work->echo)
    valk_request_finish(request, NULL);
}

static void on_writable(void *data, valk_request_t *request) {
  rig_t *rig = data;
  write_big(rig, request, valk_request_data(request));
}

static void on_end(void *data, valk_request_t *request) {
  rig_t *rig = data;
  atomic_fetch_add(&rig->ends, 1);
  unhold(rig, valk_request_handle(request));
  free(valk_request_data(request));
}

static void on_turn(void *data, unsigned thread) {
  rig_t *rig = data;
  (void) thread;
  atomic_fetch_add(&rig->turns, 1);
}

static void on_wake(void *data, unsigned thread) {
  rig_t *rig = data;
  for (unsigned i = 0; i < RIG_HELD; i++) {
    uv_mutex_lock(&rig->lock);
    rig_held_t held = rig->held[i];
    bool take = held.used && held.handle.id >> 24 == thread && atomic_load(&rig->releasing);
    uv_mutex_unlock(&rig->lock);
    if (!held.used || held.handle.id >> 24 != thread)
      continue;
    valk_request_t *request = valk_system_request(rig->system, held.handle);
    if (request == NULL)
      continue;
    if (atomic_load(&rig->unpin))
      valk_request_reclaim(request);
    if (!atomic_load(&rig->keeps_body) && atomic_load(&rig->kept_bytes) > 0)
      valk_request_consume(request, atomic_exchange(&rig->kept_bytes, 0));
    if (!take)
      continue;
    unhold(rig, held.handle);
    respond(request, 200, "", "held\n", 5);
  }
}

static uint64_t last_turn(void *data, bool poke) {
  rig_t *rig = data;
  uint64_t now = uv_hrtime() / 1000000 + valk__fault_ahead_ms();
  if (poke && atomic_load(&rig->answers_poke))
    atomic_store(&rig->last_turn, now);
  uint64_t at = atomic_load(&rig->last_turn);
  return at != 0 ? at : now;
}

typedef struct {
  rig_t *rig;
  void (*prepare)(valk_server_options_t *options);
  char *error;
  size_t error_size;
  int status;
} start_t;

static void free_system(void *data) {
  rig_t *rig = data;
  valk_system_free(rig->system);
  rig->system = NULL;
}

/* Nothing is left of a start that fails. */
static void start_system(void *data) {
  start_t *start = data;
  rig_t *rig = start->rig;
  start->status = valk_system_start(&rig->config, &rig->system, start->error, start->error_size);
  if (start->status != 0)
    return;
  ASSERT_EQ(valk_system_add_consumer(rig->system, &rig->consumer), 0);
  valk_server_options_t options = {.host = "127.0.0.1",
                                   .key = rig_key(),
                                   .key_length = strlen(rig_key()),
                                   .certificate = rig_certificate(),
                                   .certificate_length = strlen(rig_certificate()),
                                   .error_503_body = (const uint8_t *) "busy\n",
                                   .error_503_body_length = 5,
                                   .send_date = true,
                                   .js_stall_timeout_ms = 30000,
                                   .consumer = &rig->consumer};
  if (start->prepare != NULL)
    start->prepare(&options);
  start->status =
      valk_server_listen(rig->system, &options, &rig->server, start->error, start->error_size);
  if (start->status == 0)
    rig->port = valk_server_port(rig->server);
  else
    free_system(rig);
}

/* What an event loop does that has a system among its other descriptors. */
static void host(void *data) {
  start_t *start = data;
  rig_t *rig = start->rig;
  start_system(start);
  uv_sem_post(&rig->started);
  while (rig->system != NULL) {
    int next_ms = valk_system_turn(rig->system);
    ASSERT_GE(next_ms, 0);
    ASSERT_LE(next_ms, 250);
    struct pollfd descriptors[] = {
        {.fd = valk_system_descriptor(rig->system), .events = POLLIN},
        {.fd = rig->word, .events = POLLIN},
    };
    uint64_t count;
    if (poll(descriptors, 2, next_ms) > 0 && read(rig->word, &count, sizeof(count)) > 0) {
      rig->task(rig->task_argument);
      uv_sem_post(&rig->done);
    }
  }
}

void rig_call(rig_t *rig, void (*task)(void *argument), void *argument) {
  if (rig->config.io_threads > 0) {
    task(argument);
    return;
  }
  uint64_t one = 1;
  rig->task = task;
  rig->task_argument = argument;
  ASSERT_EQ(write(rig->word, &one, sizeof(one)), (ssize_t) sizeof(one));
  uv_sem_wait(&rig->done);
}

/* The end of what there is of a rig without a system. */
static void forget(rig_t *rig) {
  uv_mutex_destroy(&rig->lock);
  if (rig->config.io_threads > 0)
    return;
  uv_thread_join(&rig->host);
  close(rig->word);
  uv_sem_destroy(&rig->started);
  uv_sem_destroy(&rig->done);
}

int rig_try_start(rig_t *rig, const valk_config_t *config,
                  void (*prepare)(valk_server_options_t *options), char *error, size_t error_size) {
  memset(rig, 0, sizeof(*rig));
  rig->config = config != NULL ? *config : rig_config();
  uv_mutex_init(&rig->lock);
  rig->consumer = (valk_consumer_t){.data = rig,
                                    .on_request = on_request,
                                    .on_drop = on_drop,
                                    .on_abort = on_abort,
                                    .on_body = on_body,
                                    .on_body_end = on_body_end,
                                    .on_writable = on_writable,
                                    .on_end = on_end,
                                    .on_turn = on_turn,
                                    .on_wake = on_wake,
                                    .last_turn_ms = last_turn};
  start_t start = {rig, prepare, error, error_size, 0};
  if (rig->config.io_threads > 0) {
    start_system(&start);
  } else {
    uv_sem_init(&rig->started, 0);
    uv_sem_init(&rig->done, 0);
    rig->word = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    ASSERT_GE(rig->word, 0);
    ASSERT_OK(uv_thread_create(&rig->host, host, &start));
    uv_sem_wait(&rig->started);
  }
  if (start.status != 0)
    forget(rig);
  return start.status;
}

void rig_start(rig_t *rig, const valk_config_t *config,
               void (*prepare)(valk_server_options_t *options)) {
  char error[256] = "";
  int status = rig_try_start(rig, config, prepare, error, sizeof(error));
  ASSERT_MSG(status == 0, "%s", error);
}

void rig_release(rig_t *rig) {
  atomic_store(&rig->releasing, true);
  for (unsigned i = 0; i < rig->system->thread_count; i++)
    valk_system_wake(rig->system, i);
}

void rig_consume(rig_t *rig) {
  atomic_store(&rig->keeps_body, false);
  for (unsigned i = 0; i < rig->system->thread_count; i++)
    valk_system_wake(rig->system, i);
}

unsigned rig_held_now(rig_t *rig) {
  uv_mutex_lock(&rig->lock);
  unsigned count = rig->held_count;
  uv_mutex_unlock(&rig->lock);
  return count;
}

bool rig_wait_held(rig_t *rig, unsigned count) {
  uint64_t end = client_clock_ms() + 10000;
  while (rig_held_now(rig) < count && client_clock_ms() < end)
    uv_sleep(2);
  return rig_held_now(rig) >= count;
}

valk_stats_t rig_stats(rig_t *rig) {
  valk_stats_t stats;
  valk_system_stats(rig->system, &stats);
  ASSERT_LE(stats.connections.high_water, stats.connections.size);
  ASSERT_LE(stats.buffers.high_water, stats.buffers.size);
  ASSERT_LE(stats.arenas.high_water, stats.arenas.size + rig->config.max_overflow_arenas);
  return stats;
}

int64_t rig_pool(const rig_t *rig) {
  return (int64_t) (rig->config.connection_heap_size / 8) * rig->config.max_connections;
}

static void on_stopped(void *data) {
  uv_sem_post(data);
}

void rig_end(rig_t *rig) {
  rig_call(rig, free_system, rig);
  forget(rig);
}

void rig_stop(rig_t *rig) {
  uv_sem_t stopped;
  uv_sem_init(&stopped, 0);
  valk_system_stop(rig->system, 10000, on_stopped, &stopped);
  uv_sem_wait(&stopped);
  uv_sem_destroy(&stopped);
  valk_stats_t stats = rig_stats(rig);
  ASSERT_EQ(stats.connection.active, 0);
  ASSERT_EQ(stats.connections.in_use, 0);
  ASSERT_EQ(stats.buffers.in_use, 0);
  ASSERT_EQ(stats.request.waiting, 0);
  for (uint32_t i = 0; i <= rig->config.max_connections; i++) {
    ASSERT_EQ(atomic_load(&rig->system->budgets[i]), rig->system->budget);
  }
  ASSERT_EQ(atomic_load(&rig->system->budgets[VALK_SLOT_UPLOADS(rig->system)]), rig_pool(rig));
  rig_end(rig);
}

void rig_is_well(rig_t *rig) {
  client_t client;
  ASSERT(client_open(&client, rig->port, NULL));
  size_t stream = client_request(&client, "GET", "/hello", NULL, -1);
  ASSERT(client_wait(&client, stream, 10000));
  ASSERT_EQ(client.streams[stream].status, 200);
  client_close(&client);
}
