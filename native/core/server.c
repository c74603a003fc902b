/* Servers: listening with a certificate, static routes, closing. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "fault.h"
#include "internal.h"

/* ---- static routes ---- */

static int compare_routes(const void *a, const void *b) {
  return strcmp(((const valk_static_t *) a)->path, ((const valk_static_t *) b)->path);
}

static const valk_static_t *find_route(const valk_server_t *server, const char *path,
                                       size_t length) {
  size_t low = 0, high = server->route_count;
  while (low < high) {
    size_t middle = low + (high - low) / 2;
    const valk_static_t *route = &server->routes[middle];
    size_t common = length < route->path_length ? length : route->path_length;
    int order = memcmp(path, route->path, common);
    if (order == 0)
      order = (length > route->path_length) - (length < route->path_length);
    if (order == 0)
      return route;
    if (order < 0) {
      high = middle;
    } else {
      low = middle + 1;
    }
  }
  return NULL;
}

static void reply_not_found(valk_request_t *request) {
  static const char fields[] = "content-type\ntext/plain; charset=utf-8\n";
  static const char body[] = "Not Found\n";
  valk__request_reply(request, 404, fields, sizeof(fields) - 1, (const uint8_t *) body,
                      sizeof(body) - 1);
}

bool valk__server_answer(valk_request_t *request, const char *text) {
  const valk_server_t *server = request->server;
  bool health = request->connection->health;
  if (server->route_count == 0 && server->live_path == NULL && server->ready_path == NULL)
    return false;
  bool get = request->is_head || memcmp(text, "GET\n", 4) == 0;
  const char *path = text;
  for (int part = 0; part < 3; part++)
    path = strchr(path, '\n') + 1; /* method, scheme, authority */
  size_t length = strcspn(path, "?\n");
  if (get && (health || !server->health.open_for_health) &&
      valk__health_answer(request, path, length))
    return true;
  if (health) {
    reply_not_found(request);
    return true;
  }
  const valk_static_t *route = get ? find_route(server, path, length) : NULL;
  if (route == NULL)
    return false;
  valk__count(&request->thread->counters.static_routes);
  valk__request_reply(request, route->status, route->fields, route->fields_length, route->body,
                      route->body_length);
  return true;
}

/* ---- life ---- */

static void *copy(const void *from, size_t length, bool *failed) {
  char *to = valk__fault(VALK_FAULT_MALLOC) ? NULL : malloc(length + 1);
  if (to == NULL) {
    *failed = true;
    return NULL;
  }
  if (length > 0)
    memcpy(to, from, length);
  to[length] = '\0';
  return to;
}

void valk__server_free(valk_server_t *server) {
  for (size_t i = 0; i < server->route_count; i++) {
    free(server->routes[i].path);
    free(server->routes[i].fields);
    free(server->routes[i].body);
  }
  free(server->routes);
  free(server->error_503_body);
  free(server->live_path);
  free(server->ready_path);
  free(server->drain_mails);
  free(server->end_mails);
  if (server->tls != NULL)
    valk_tls_context_unref(server->tls);
  if (server->gate_ready) {
    valk_gate_deinit(&server->health_gate);
    uv_mutex_destroy(&server->tls_lock);
  }
  free(server);
}

static void on_health_place(void *data, uint32_t consumer) {
  valk_server_t *server = data;
  valk__thread_signal(&server->system->threads[consumer], VALK_SIGNAL_ACCEPT);
}

static valk_server_t *make_server(valk_system_t *system, const valk_server_options_t *options) {
  valk_server_t *server = valk__fault(VALK_FAULT_MALLOC) ? NULL : calloc(1, sizeof(*server));
  if (server == NULL)
    return NULL;
  bool failed = false;
  server->system = system;
  server->listener.fd = server->health.fd = -1;
  server->listener.server = server->health.server = server;
  server->health.health = true;
  server->health.open_for_health = options->health_listener;
  server->stream_bodies = options->stream_bodies;
  server->send_date = options->send_date;
  server->consumer = options->consumer;
  server->data = options->data;
  server->js_stall_timeout_ms = options->js_stall_timeout_ms;
  server->error_503_body = copy(options->error_503_body, options->error_503_body_length, &failed);
  server->error_503_body_length = options->error_503_body_length;
  if (options->live_path != NULL)
    server->live_path = copy(options->live_path, strlen(options->live_path), &failed);
  if (options->ready_path != NULL)
    server->ready_path = copy(options->ready_path, strlen(options->ready_path), &failed);
  if (!valk__fault(VALK_FAULT_MALLOC))
    server->drain_mails = calloc(system->thread_count, sizeof(*server->drain_mails));
  if (!valk__fault(VALK_FAULT_MALLOC))
    server->end_mails = calloc(system->thread_count, sizeof(*server->end_mails));
  if (server->drain_mails == NULL || server->end_mails == NULL)
    failed = true;
  if (!valk__fault(VALK_FAULT_MALLOC))
    server->routes = calloc(options->route_count + 1, sizeof(*server->routes));
  if (server->routes == NULL)
    failed = true;
  for (size_t i = 0; i < options->route_count && !failed; i++) {
    const valk_route_t *from = &options->routes[i];
    valk_static_t *to = &server->routes[i];
    server->route_count++;
    to->status = from->status;
    to->path_length = strlen(from->path);
    to->path = copy(from->path, to->path_length, &failed);
    to->fields = copy(from->fields, from->fields_length, &failed);
    to->fields_length = from->fields_length;
    to->body = copy(from->body, from->body_length, &failed);
    to->body_length = from->body_length;
  }
  if (!failed && valk_gate_init(&server->health_gate, VALK_HEALTH_CONNECTIONS, 0,
                                system->thread_count, on_health_place, server) == 0) {
    if (!valk__fault(VALK_FAULT_LOCK) && uv_mutex_init(&server->tls_lock) == 0) {
      server->gate_ready = true;
    } else {
      valk_gate_deinit(&server->health_gate);
    }
  }
  if (failed || !server->gate_ready) {
    valk__server_free(server);
    return NULL;
  }
  qsort(server->routes, server->route_count, sizeof(*server->routes), compare_routes);
  return server;
}

typedef struct {
  valk_mail_t mail;
  valk_server_t *server;
  uv_sem_t done;
  int status;
} start_mail_t;

static void open_start(valk_thread_t *thread, valk_mail_t *mail) {
  start_mail_t *letter = (start_mail_t *) mail;
  valk_server_t *server = letter->server;
  letter->status = valk__listener_start(thread, &server->listener);
  if (server->health.fd >= 0) {
    int status = valk__listener_start(thread, &server->health);
    if (letter->status == 0)
      letter->status = status;
  }
  uv_sem_post(&letter->done);
}

/* ---- certificates ---- */

static int make_context(const valk_server_options_t *options, valk_tls_context_t *previous,
                        valk_tls_context_t **context, char *error, size_t error_size) {
  valk_tls_options_t tls = {.key = options->key,
                            .key_length = options->key_length,
                            .certificate = options->certificate,
                            .certificate_length = options->certificate_length,
                            .contexts = options->contexts,
                            .context_count = options->context_count,
                            .request_certificate = options->request_certificate,
                            .reject_unauthorized = options->reject_unauthorized,
                            .ca = options->ca,
                            .ca_length = options->ca_length,
                            .previous = previous};
  return valk_tls_context_new(&tls, context, error, error_size);
}

static valk_tls_context_t *ref_context(valk_server_t *server) {
  uv_mutex_lock(&server->tls_lock);
  valk_tls_context_t *context = server->tls;
  valk_tls_context_ref(context);
  uv_mutex_unlock(&server->tls_lock);
  return context;
}

int valk_server_set_secure_context(valk_server_t *server, const valk_server_options_t *options,
                                   char *error, size_t error_size) {
  if (atomic_load(&server->closing) || atomic_load(&server->system->stopping)) {
    snprintf(error, error_size, "the server has been closed");
    return VALK_ESTOPPED;
  }
  valk_tls_context_t *previous = ref_context(server);
  valk_tls_context_t *context;
  int status = make_context(options, previous, &context, error, error_size);
  valk_tls_context_unref(previous);
  if (status != 0)
    return status;
  uv_mutex_lock(&server->tls_lock);
  previous = server->tls;
  server->tls = context;
  uv_mutex_unlock(&server->tls_lock);
  valk_tls_context_unref(previous);
  return 0;
}

int valk__server_tls_new(valk_server_t *server, bool health, valk_tls_t **tls) {
  valk_tls_context_t *context = ref_context(server);
  int status = valk_tls_new(context, tls);
  valk_tls_context_unref(context);
  if (status == 0 && health && valk_tls_waive_certificate(*tls) != 0) {
    valk_tls_free(*tls);
    *tls = NULL;
    status = VALK_ENOMEM;
  }
  return status;
}

int valk_server_listen(valk_system_t *system, const valk_server_options_t *options,
                       valk_server_t **result, char *error, size_t error_size) {
  if (atomic_load(&system->stopping)) {
    snprintf(error, error_size, "the system has been stopped");
    return VALK_ESTOPPED;
  }
  valk_server_t *server = make_server(system, options);
  if (server == NULL) {
    snprintf(error, error_size, "out of memory");
    return VALK_ENOMEM;
  }
  int status = make_context(options, NULL, &server->tls, error, error_size);
  if (status == 0)
    status = valk__listener_bind(&server->listener, options->host, options->port,
                                 options->reuse_port, error, error_size);
  if (status == 0 && options->health_listener) {
    status = valk__listener_bind(&server->health, options->host, options->health_port,
                                 options->reuse_port, error, error_size);
  }
  start_mail_t letter = {.mail = {.open = open_start}, .server = server};
  if (status == 0) {
    status = valk__fault(VALK_FAULT_LOCK) ? -errno : uv_sem_init(&letter.done, 0);
    if (status != 0)
      snprintf(error, error_size, "the listener's thread: %s", valk_strerror(status));
  }
  if (status != 0) {
    if (server->listener.fd >= 0)
      close(server->listener.fd);
    if (server->health.fd >= 0)
      close(server->health.fd);
    valk__server_free(server);
    return status;
  }
  atomic_store(&server->active, options->health_listener ? 2 : 1);
  uv_mutex_lock(&system->lock);
  bool stopped = atomic_load(&system->stopping);
  if (!stopped) {
    atomic_fetch_add(&system->open_servers, 1);
    server->next = system->servers;
    system->servers = server;
    /* Before anybody can find it who would close it. */
    valk__thread_post(&system->threads[0], &letter.mail);
  }
  uv_mutex_unlock(&system->lock);
  if (stopped) {
    uv_sem_destroy(&letter.done);
    close(server->listener.fd);
    if (server->health.fd >= 0)
      close(server->health.fd);
    valk__server_free(server);
    snprintf(error, error_size, "the system has been stopped");
    return VALK_ESTOPPED;
  }
  valk__system_await(system, &letter.done);
  uv_sem_destroy(&letter.done);
  if (letter.status != 0) {
    /* It stays in the system's list, as a closed server does. */
    snprintf(error, error_size, "poll %s:%u: %s", options->host, (unsigned) server->listener.port,
             uv_strerror(letter.status));
    valk_server_close(server, 0, NULL, NULL);
    return letter.status;
  }
  *result = server;
  return 0;
}

uint16_t valk_server_port(const valk_server_t *server) {
  return server->listener.port;
}
uint16_t valk_server_health_port(const valk_server_t *server) {
  return server->health.port;
}

/* ---- closing ---- */

void valk__server_unref(valk_server_t *server) {
  if (atomic_fetch_sub(&server->active, 1) != 1)
    return;
  valk_system_t *system = server->system;
  uv_mutex_lock(&system->lock);
  void (*on_closed)(void *data) = server->on_closed;
  void *data = server->on_closed_data;
  server->on_closed = NULL;
  server->closed = true;
  uv_mutex_unlock(&system->lock);
  if (on_closed != NULL)
    on_closed(data);
  valk__system_server_closed(system);
}

void valk_server_unready(valk_system_t *system, valk_server_t *server) {
  if (server != NULL) {
    atomic_store(&server->unready, true);
    return;
  }
  uv_mutex_lock(&system->lock);
  for (server = system->servers; server != NULL; server = server->next)
    atomic_store(&server->unready, true);
  uv_mutex_unlock(&system->lock);
}

static void open_drain(valk_thread_t *thread, valk_mail_t *mail) {
  valk_server_t *server = ((struct valk_server_mail *) mail)->server;
  if (thread->index == 0) {
    valk__listener_stop(thread, &server->listener);
    valk__listener_stop(thread, &server->health);
  }
  thread->draining = true;
  valk__connections_drain(thread, server);
  valk__server_unref(server);
}

static void open_end(valk_thread_t *thread, valk_mail_t *mail) {
  valk_server_t *server = ((struct valk_server_mail *) mail)->server;
  valk__connections_drain(thread, server);
  valk__server_unref(server);
}

static void shorten_deadline(valk_server_t *server, uint64_t deadline_ns) {
  uint64_t old = atomic_load(&server->deadline_ns);
  while ((old == 0 || deadline_ns < old) &&
         !atomic_compare_exchange_weak(&server->deadline_ns, &old, deadline_ns)) {
  }
}

static void post_all(valk_server_t *server, struct valk_server_mail *mails,
                     void (*open)(valk_thread_t *thread, valk_mail_t *mail)) {
  valk_system_t *system = server->system;
  atomic_fetch_add(&server->active, system->thread_count); /* the letters */
  for (unsigned i = 0; i < system->thread_count; i++) {
    mails[i].server = server;
    mails[i].mail.open = open;
    valk__thread_post(&system->threads[i], &mails[i].mail);
  }
}

void valk_server_close(valk_server_t *server, uint32_t timeout_ms, void (*on_closed)(void *data),
                       void *data) {
  valk_system_t *system = server->system;
  shorten_deadline(server, valk__clock_ns() + (uint64_t) timeout_ms * 1000000u);
  uv_mutex_lock(&system->lock);
  bool closed = server->closed;
  if (!closed && on_closed != NULL) {
    server->on_closed = on_closed;
    server->on_closed_data = data;
  }
  bool first = !atomic_exchange(&server->closing, true);
  if (first)
    atomic_fetch_add(&server->active, 1); /* ours, until the letters are posted */
  uv_mutex_unlock(&system->lock);
  if (closed) {
    if (on_closed != NULL)
      on_closed(data);
    return;
  }
  if (!first)
    return;
  post_all(server, server->drain_mails, open_drain);
  valk__server_unref(server);
}

void valk__server_end(valk_server_t *server) {
  valk_system_t *system = server->system;
  valk_server_close(server, 0, NULL, NULL);
  uv_mutex_lock(&system->lock);
  bool closed = server->closed;
  if (!closed)
    atomic_fetch_add(&server->active, 1);
  uv_mutex_unlock(&system->lock);
  if (closed)
    return;
  post_all(server, server->end_mails, open_end);
  valk__server_unref(server);
}
