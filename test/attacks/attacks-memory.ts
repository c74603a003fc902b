import type { Attack } from './attacks.js';

export const memory: Record<string, Attack> = {};
