import type {
  AioConfig,
  ConfigField,
  ConfigValues,
  ConfigWarning,
  ConfigWarningCode,
  ResolvedConfig,
} from './config-types.js';
import { AioConfigError } from './errors.js';
import { CONFIG_FIELDS, CONFIG_LIMITS, formatCount, LISTEN_FIELDS, numberProblem, SEED_FIELD_COUNT } from './limits.js';
import { type OptionSet, readOptions } from './options.js';

const CONFIG_OPTIONS: OptionSet<ConfigField> = {
  whole: 'config',
  prefix: '',
  names: CONFIG_FIELDS,
  misplaced: { names: LISTEN_FIELDS, hint: 'is an option of listen(), not of start()' },
};

/** The fields that a caller has set, as they were; what is to be derived is left out. */
export type GivenConfig = ReadonlyMap<ConfigField, unknown>;

/**
 * A configuration to change and to hand to `start()`: the defaults, and 0 for every derived field, so that it follows
 * whatever `maxConnections` and `maxConcurrentStreams` are set to.
 *
 * @returns a new, mutable object at each call
 */
export function defaultConfig(): ConfigValues {
  const config = resolveConfig();
  return { ...config, tcpBufferPoolSize: 0, arenaPoolSize: 0, queueCapacity: 0, connectionHeapSize: 0 };
}

/**
 * Derives what is not given and checks everything (specification, section 1). Pure: nothing is started or kept.
 *
 * A derived value outside its limits is held to the limit; an explicit one is an error. Resolving a resolved
 * configuration gives the same again.
 *
 * @param config - any of the fields; `undefined` for the defaults
 * @returns a complete, frozen configuration
 * @throws AioConfigError for an unknown key, for anything but a whole number within its limits, for a relationship that
 * does not hold, and for a configuration that is no plain object
 */
export function resolveConfig(config?: AioConfig): ResolvedConfig {
  return resolveGiven(readConfig(config));
}

/**
 * Checks a complete configuration: first the seed's seven fields, then their relationships, then the rest.
 *
 * @returns the first sentence that applies, which begins with the field's name, or `null` for a valid configuration
 */
export function validateConfig(resolved: ResolvedConfig): string | null {
  return (
    firstProblem(resolved, CONFIG_FIELDS.slice(0, SEED_FIELD_COUNT)) ??
    relationshipProblem(resolved) ??
    firstProblem(resolved, CONFIG_FIELDS.slice(SEED_FIELD_COUNT))
  );
}

/**
 * What works and may not work well: fewer than 70 % of the recommended TCP buffers, fewer arenas than connections, a
 * value at a maximum that its derivation exceeds.
 *
 * @param resolved - a valid configuration
 * @returns the warnings, buffers first; empty where there is nothing to say
 */
export function configWarnings(resolved: ResolvedConfig): ConfigWarning[] {
  const { maxConnections, maxConcurrentStreams, tcpBufferPoolSize, arenaPoolSize } = resolved;
  const warnings: ConfigWarning[] = [];
  const warn = (code: ConfigWarningCode, field: ConfigField, message: string): void => {
    warnings.push(Object.freeze({ code, field, message }));
  };

  const recommended = deriveField('tcpBufferPoolSize', maxConnections, maxConcurrentStreams);
  // In whole numbers: 0.7 has no exact binary form, and 70 % itself must not warn.
  if (tcpBufferPoolSize * 10 < recommended * 7) {
    warn(
      'VALK_AIO_LOW_BUFFERS',
      'tcpBufferPoolSize',
      `tcpBufferPoolSize (${tcpBufferPoolSize}) may be insufficient for ${maxConcurrentStreams} streams/conn; ` +
        `recommend >= ${recommended}`,
    );
  }
  if (arenaPoolSize < maxConnections) {
    warn(
      'VALK_AIO_LOW_ARENAS',
      'arenaPoolSize',
      `arenaPoolSize (${arenaPoolSize}) < maxConnections (${maxConnections}) may cause frequent 503 responses`,
    );
  }
  for (const field of CONFIG_FIELDS) {
    const { max, derive } = CONFIG_LIMITS[field];
    const wanted = derive(maxConnections, maxConcurrentStreams);
    if (resolved[field] !== max || wanted <= max) continue;
    const message = `${field} stands at its maximum of ${formatCount(max)}; its derivation gives ${formatCount(wanted)}`;
    warn('VALK_AIO_CLAMPED', field, message);
  }
  return warnings;
}

/**
 * Reads the fields that are set: each once, without those whose 0 means "derive".
 *
 * @throws AioConfigError when it is no plain object or has an unknown key; the values themselves are not checked
 */
export function readConfig(config: unknown): GivenConfig {
  const given = new Map<ConfigField, unknown>();
  if (config === undefined) return given;
  for (const [field, value] of readOptions(config, CONFIG_OPTIONS)) {
    if (value !== 0) given.set(field, value);
    // A literal 0, because -0 equals 0 and prints differently.
    else if (!CONFIG_LIMITS[field].zeroDerives) given.set(field, 0);
  }
  return given;
}

/**
 * Completes and checks what {@link readConfig} has read.
 *
 * @throws AioConfigError with the sentence of {@link validateConfig}
 */
export function resolveGiven(given: GivenConfig): ResolvedConfig {
  // A primary that is no number is reported below, before anything that would be derived from it.
  const primary = (field: ConfigField): number => {
    const value = given.get(field) ?? deriveField(field, 0, 0);
    return typeof value === 'number' ? value : 0;
  };
  const connections = primary('maxConnections');
  const streams = primary('maxConcurrentStreams');
  const values: { [field: string]: unknown } = {};
  for (const field of CONFIG_FIELDS) {
    values[field] = given.has(field) ? given.get(field) : deriveField(field, connections, streams);
  }
  // Valid from here on, or thrown away by the check that follows.
  const resolved = values as unknown as ResolvedConfig;
  const problem = validateConfig(resolved);
  if (problem === null) return Object.freeze(resolved);
  const { [problem.slice(0, problem.indexOf(' '))]: value } = values;
  throw new AioConfigError(problem, value);
}

/** The value of a field that is not given, held within its limits. */
function deriveField(field: ConfigField, maxConnections: number, maxConcurrentStreams: number): number {
  const { min, max, derive } = CONFIG_LIMITS[field];
  return Math.min(Math.max(derive(maxConnections, maxConcurrentStreams), min), max);
}

function firstProblem(resolved: ResolvedConfig, fields: readonly ConfigField[]): string | null {
  for (const field of fields) {
    const problem = numberProblem(field, resolved[field], CONFIG_LIMITS[field]);
    if (problem !== null) return problem;
  }
  return null;
}

function relationshipProblem({ maxConnections, tcpBufferPoolSize, arenaPoolSize }: ResolvedConfig): string | null {
  if (tcpBufferPoolSize < maxConnections) return 'tcpBufferPoolSize must be >= maxConnections';
  if (arenaPoolSize < Math.floor(maxConnections / 10)) return 'arenaPoolSize must be >= maxConnections / 10';
  return null;
}
