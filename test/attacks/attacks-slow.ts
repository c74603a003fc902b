import type { Attack } from './attacks.js';

export const slow: Record<string, Attack> = {};
