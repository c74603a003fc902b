import type { Attack } from './attacks.js';

export const tls: Record<string, Attack> = {};
