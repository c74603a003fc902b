import { resolveConfig } from '../../lib/config.js';
import type { AioConfig, ConfigField, ListenOptions, ResolvedConfig } from '../../lib/config-types.js';
import { AioConfigError } from '../../lib/errors.js';
import { resolveListenOptions } from '../../lib/listen-options.js';

/** Stand for a key and a certificate: what resolves options does not read them. */
export const PEM = { key: 'a key', cert: 'a certificate' };

/** The error of a call that must fail. */
export function configError(run: () => unknown): AioConfigError {
  try {
    run();
  } catch (error) {
    if (error instanceof AioConfigError) return error;
    throw error;
  }
  throw new Error('nothing was thrown');
}

/** The error of resolving anything at all as a configuration, types aside. */
export function configErrorOf(config: unknown): AioConfigError {
  return configError(() => resolveConfig(config as AioConfig));
}

/** The defaults with one field changed, types aside. */
export function withField(field: ConfigField, value: unknown): ResolvedConfig {
  return { ...resolveConfig(), [field]: value } as ResolvedConfig;
}

/** The error of bad options of `listen()`, types aside. */
export function listenErrorOf(options: unknown): AioConfigError {
  return configError(() => resolveListenOptions(options as ListenOptions));
}

/** The error of one bad option beside good ones. */
export function listenFieldError(field: keyof ListenOptions, value: unknown): AioConfigError {
  return listenErrorOf({ ...PEM, [field]: value });
}
