/**
 * valk-aio: an HTTP/2 server for Node.js with hard bounds. `start()` starts an engine, `listen()` serves a fetch handler.
 *
 * @packageDocumentation
 */
export { configWarnings, defaultConfig, resolveConfig, validateConfig } from './config.js';
export type {
  AioConfig,
  ConfigField,
  ConfigValues,
  ConfigWarning,
  ConfigWarningCode,
  HeaderSource,
  HealthOptions,
  KeyAndCertificate,
  ListenOptions,
  MemoryPlan,
  ResolvedConfig,
  SecureContextOptions,
  StaticRoute,
} from './config-types.js';
export { AioConfigError, AioError, type AioErrorCode } from './errors.js';
export { configForMemory, planMemory } from './plan.js';
export type { Server } from './server.js';
export type { StopOptions } from './server-stopping.js';
export { type Aio, start } from './system.js';
export type { AioStats, Counters, LatencyStats, PoolStats } from './system-stats.js';
export type {
  AioRequest,
  AioResponse,
  BodyChunk,
  BodyInput,
  ConnectionInfo,
  Handler,
  HeadersInput,
  HeaderValue,
  OnError,
  PeerCertificate,
} from './types.js';
